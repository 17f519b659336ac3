"""How long the runs left will take: from the cost of records that resemble them, else from a few measured steps."""

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median

from cl_semisup import records
from cl_semisup.errors import InputError
from cl_semisup.run import Run
from cl_semisup.suite import Suite

START_SECONDS = 8.0  # a worker's imports and its first data set
PROBE_SECONDS = 0.5  # evaluation of one run where nothing is known of it


def sentence(results: Path, suite: Suite, todo: list[Run], device: str, workers: int | None) -> str:
    """The estimate in words, with where it comes from."""
    if not todo:
        return "Nothing is left to do."
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.execution.local import default_workers

    device = choose_device(device)
    workers = min(len(todo), workers or default_workers(device))
    known = _known(results, suite.runs)
    measured = 0
    total = 0.0
    for run in todo:
        key = _like(run)
        if key not in known:
            try:
                known[key] = _measure(run, suite, device)
            except InputError as error:
                return f"Time left: unknown, since {error}"
            measured += 1
        total += known[key]
    source = f"{measured} kind(s) of run measured for a few steps" if measured else "from finished runs like these"
    return (
        f"Time left: about {_words(total / workers + START_SECONDS)} in {workers} process(es) on {device} ({source})."
    )


def _like(run: Run) -> str:
    """Runs that cost about the same; the loss is left out, since the network dominates."""
    return repr((run.dataset, run.encoder, run.epochs, run.batch_size, run.projector))


def _known(results: Path, runs: tuple[Run, ...]) -> dict[str, float]:
    costs = defaultdict(list)
    for run_id, record in records.find(results, runs).items():
        cost = record["cost"]
        if record["status"] in ("ok", "collapsed"):
            run = next(run for run in runs if run.id == run_id)
            costs[_like(run)].append(cost.get("train_seconds", 0.0) + cost.get("evaluation_seconds", 0.0))
    return {key: median(seconds) for key, seconds in costs.items()}


def _measure(run: Run, suite: Suite, device: str) -> float:
    """Seconds of a whole run, from two epochs' worth of at most a few steps on the real data."""
    import torch

    from cl_semisup.execution.execute import Executor, Machine

    if not run.epochs:
        return PROBE_SECONDS
    torch.set_num_threads(1)
    executor = Executor(Machine(device, suite.data_dir))
    data = executor.data(run)
    short = replace(run, epochs=1)
    began = time.perf_counter()
    record, _ = executor(short)
    seconds = time.perf_counter() - began
    cost = record["cost"]
    if "train_seconds" not in cost:
        return seconds * run.epochs
    return (
        cost["train_seconds"] * run.epochs + cost.get("evaluation_seconds", PROBE_SECONDS) * len(data.train_images) ** 0
    )


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
