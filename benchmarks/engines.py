"""An engine's overhead a run, and the predicted time of a suite on a large cluster: the numbers of docs/scaling.md.

    python benchmarks/engines.py            some five minutes on two quiet cores: 10,000 runs an engine, then the check
    python benchmarks/engines.py --quick    the same with 500 runs
    python benchmarks/engines.py --check    only the check of the model: a small suite, predicted and measured
    python benchmarks/engines.py --predict  only the predictions of docs/scaling.md, from results/engines.json

The first two write results/engines.md and the table in docs/scaling.md. Overhead: runs of
an encoder that does not exist fail at once. They go the whole way from the suite to a record on disk and train nothing.
Check: the wall time of a small suite with 1 and 2 workers, predicted from its first runs.
"""

import argparse
import contextlib
import io
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import _record  # noqa: E402
from cl_semisup.engines.local import LocalEngine  # noqa: E402
from cl_semisup.execution.machine import Machine, Need  # noqa: E402
from cl_semisup.execution.training_groups import Finished, TrainingGroup  # noqa: E402
from cl_semisup.scheduling import scheduler  # noqa: E402
from cl_semisup.suite import suite  # noqa: E402
from cl_semisup.suite.run import Run  # noqa: E402

RUNS, QUICK_RUNS = 10_000, 500
CHECK_RUNS, SAMPLE_RUNS = 16, 5  # of the suite whose wall time is predicted; the first ones, from which it is
GPUS = (1, 8, 64, 512)
DOLLARS_PER_HOUR = 2.0  # a GPU hour, assumed
MINUTES = {  # of one CIFAR-100 run on one GPU: ResNet-18, 200 epochs, batch 512; assumptions, see docs/scaling.md
    "published": 87.1,
    "computed": 50_000 * 200 * 2 * 3 * 2 * 0.56e9 / (0.3 * 312e12) / 60,
}
SUITE = """\
question: What does an engine cost?
name: engines
datasets: digits
encoder: {encoder}
losses: nt_xent
label_fraction: 0.1
learning_rate: [{rates}]
batch_size: 128
repetitions: {repetitions}
epochs: {epochs}
"""
DOCUMENT = ROOT / "docs" / "scaling.md"
MARKS = ("<!-- benchmarks/engines.py writes this table -->\n", "<!-- until here -->")


def trained_runs(rates: int, repetitions: int, encoder: str, epochs: int) -> list[Run]:
    """The runs of a suite with so many learning rates and repetitions, without the untrained ones."""
    grid = ", ".join(f"{i / 1e4:g}" for i in range(1, rates + 1))
    text = SUITE.format(rates=grid, repetitions=repetitions, encoder=encoder, epochs=epochs)
    return [run for run in suite.parse(text, "engines.yaml").runs if run.epochs]


def local(workers: int) -> scheduler.Engine:
    return LocalEngine(Machine("cpu", "data"), workers)


def ray(workers: int) -> scheduler.Engine:
    from cl_semisup.engines import ray_engine

    ray_engine.connect("local")
    return ray_engine.RayEngine(Machine("cpu", "data"), Need(1, 0), workers)


ENGINES: dict[str, Callable[[int], scheduler.Engine]] = {"local": local, "ray": ray}


class TimedEngine:
    """Wraps an engine and records when its first and its last result came."""

    def __init__(self, engine: scheduler.Engine):
        self.engine, self.first, self.last = engine, math.nan, math.nan

    @property
    def slots(self) -> int:
        return self.engine.slots

    def submit(self, training: TrainingGroup) -> None:
        self.engine.submit(training)

    def results(self, seconds: float) -> list[Finished]:
        finished = self.engine.results(seconds)
        if finished:
            self.last = time.perf_counter()
            self.first = self.last if math.isnan(self.first) else self.first
        return finished

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        return self.engine.cancel(seconds)


class Times(NamedTuple):
    """Seconds until the first result, from there to the last, and of the whole."""

    first: float
    rest: float
    whole: float


def timed(engine: str, workers: int, runs: list[Run], status: str) -> Times:
    """Start an engine and run until all records are on disk."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start_time = time.perf_counter()
        timed_engine = TimedEngine(ENGINES[engine](workers))
        counts = scheduler.run_all(Path(folder), runs, timed_engine, share=False)
        whole = time.perf_counter() - start_time
    if counts.statuses != {status: len(runs)}:
        raise RuntimeError(f"all {len(runs)} runs should be {status}. Got {counts.statuses}.")
    return Times(timed_engine.first - start_time, timed_engine.last - timed_engine.first, whole)


def overhead(engine: str, count: int) -> dict[str, Any]:
    """A row: runs that train nothing, on 2 workers."""
    failing = [replace(run, encoder={"absent": {}}) for run in trained_runs(count // 50, 50, "mlp", 1)]
    times = timed(engine, 2, failing, "failed")
    return row("nothing", engine, 2, len(failing), times.first, 0.0, 1000 * times.rest / (len(failing) - 1), times)


def check(engine: str, cost: float) -> list[dict[str, Any]]:
    """Rows: a small suite on 1 and 2 workers, predicted from its first runs on one worker."""
    small = trained_runs(4, CHECK_RUNS // 4, "convnet", 10)
    sample = timed(engine, 1, small[:SAMPLE_RUNS], "ok")
    run_seconds = sample.rest / (SAMPLE_RUNS - 1)
    return [
        row(
            "small",
            engine,
            workers,
            CHECK_RUNS,
            sample.first - run_seconds,
            run_seconds,
            cost,
            timed(engine, workers, small, "ok"),
        )
        for workers in (1, 2)
    ]


def row(
    what: str, engine: str, workers: int, runs: int, start: float, each: float, cost: float, times: Times
) -> dict[str, Any]:
    predicted = wall(runs, workers, start, each, cost)
    return {
        "suite": what,
        "engine": engine,
        "workers": workers,
        "runs": runs,
        "start, s": start,
        "a run, s": each,
        "overhead, ms a run": cost,
        "predicted, s": predicted,
        "measured, s": times.whole,
        "error": f"{100 * (predicted / times.whole - 1):+.1f} %",
    }


def wall(runs: int, slots: int, start: float, each: float, cost: float) -> float:
    """The model: the start, waves of equal runs, and one process that handles all records, one by one."""
    return start + math.ceil(runs / slots) * each + runs * cost / 1000


def stored_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((_record.RESULTS / "engines.json").read_text())["rows"]
    return rows


def overhead_row(rows: list[dict[str, Any]], engine: str) -> dict[str, Any]:
    return next(one for one in rows if (one["suite"], one["engine"]) == ("nothing", engine))


def predictions() -> str:
    """Wall time, GPU hours and dollars of a suite of 10,000 runs on Ray, in Markdown."""
    measured = overhead_row(stored_rows(), "ray")
    lines = ["| a run takes | GPUs | waves | wall time | GPU hours paid | cost | GPUs busy |", "|" + " --- |" * 7]
    for source, minutes in MINUTES.items():
        for gpus in GPUS:
            seconds = wall(RUNS, gpus, measured["start, s"], 60 * minutes, measured["overhead, ms a run"])
            paid = gpus * seconds / 3600
            cells = [
                f"{minutes:.0f} min ({source})",
                f"{gpus}",
                f"{math.ceil(RUNS / gpus):,}",
                format_duration(seconds),
            ]
            cells += [f"{paid:,.0f}", f"${paid * DOLLARS_PER_HOUR:,.0f}", f"{RUNS * minutes / 60 / paid:.1%}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def format_duration(seconds: float) -> str:
    return f"{seconds / 86400:,.1f} days" if seconds > 2 * 86400 else f"{seconds / 3600:.1f} h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    only = parser.add_mutually_exclusive_group()
    for name in ("--quick", "--check", "--predict"):
        only.add_argument(name, action="store_true")
    options = parser.parse_args()
    if options.predict:
        print(predictions(), end="")
    elif options.check:
        for engine in ENGINES:
            for one in check(engine, overhead_row(stored_rows(), engine)["overhead, ms a run"]):
                print(", ".join(f"{name} {value}" for name, value in one.items()))
    else:
        load = os.getloadavg()[0]
        rows = [overhead(engine, QUICK_RUNS if options.quick else RUNS) for engine in ENGINES]
        for engine in ENGINES:
            rows += check(engine, overhead_row(rows, engine)["overhead, ms a run"])
        print(_record.write("engines", ABOUT + f" Load before it began: {load:.1f}.", rows, ("torch", "ray")))
        before, mark, rest = DOCUMENT.read_text("utf-8").partition(MARKS[0])
        DOCUMENT.write_text(before + mark + predictions() + MARKS[1] + rest.partition(MARKS[1])[2], "utf-8")


ABOUT = (
    "From a suite to records on disk. `nothing`: runs that fail at once; `small`: a convnet on digits, 10 epochs. "
    "Predicted as start + ceil(runs / workers) x a run + runs x overhead; the overhead is that of `nothing`, start and "
    f"time of a run are those of the first {SAMPLE_RUNS} runs on one worker."
)

if __name__ == "__main__":
    main()
