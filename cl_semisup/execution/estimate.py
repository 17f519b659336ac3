"""How long the runs left will take: from the cost of records that resemble them, else from a few measured steps."""

import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median

from cl_semisup import records
from cl_semisup.errors import InputError
from cl_semisup.execution import trainings
from cl_semisup.execution.progress import words
from cl_semisup.run import Run
from cl_semisup.suite import Suite

START_SECONDS = 4.0  # imports and the first data set, on this side of the first step
PROBE_SECONDS = 0.5  # probes of one run where nothing is known of them
MEASURED_BATCH = 64  # images a step when a run is measured; large enough to keep a core busy
MEASURED_STEPS = 4
Seconds = tuple[float, float]  # of training and of evaluation


def sentence(results: Path, suite: Suite, todo: list[Run], device: str, workers: int | None) -> str:
    """The estimate in words, with where it comes from."""
    if not todo:
        return "Nothing is left to do."
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.execution.machine import default_workers

    device = choose_device(device)
    grouped = trainings.group(todo)
    workers = min(len(grouped), workers or default_workers(device))
    known = _known(results, suite.runs)
    measured = 0
    total = 0.0
    for training in grouped:
        run = training.runs[0]
        key = _like(run)
        if key not in known:
            try:
                known[key] = _measure(run, suite, device)
            except InputError as error:
                return f"Time left: unknown, since {error}"
            measured += 1
        fit, probe = known[key]
        total += fit + probe * len(training.runs)
    source = f"{measured} kind(s) of run measured for a few steps" if measured else "from finished runs like these"
    left = words(total / workers + START_SECONDS)
    return f"Time left: about {left} for {len(grouped)} trainings in {workers} process(es) on {device} ({source})."


def _like(run: Run) -> str:
    """Runs that cost about the same; the loss is left out, since the network dominates."""
    return repr((run.dataset, run.encoder, run.epochs, run.batch_size, run.projector))


def _known(results: Path, runs: tuple[Run, ...]) -> dict[str, Seconds]:
    """Medians over finished runs that are alike."""
    costs = defaultdict(list)
    found = records.find(results, runs)
    for run in runs:
        record = found.get(run.id)
        if record and record["status"] in ("ok", "collapsed"):
            cost = record["cost"]
            costs[_like(run)].append((cost.get("train_seconds", 0.0), cost.get("evaluation_seconds", 0.0)))
    return {key: (median(fit for fit, _ in s), median(probe for _, probe in s)) for key, s in costs.items()}


def _measure(run: Run, suite: Suite, device: str) -> Seconds:
    """Of a whole run, from a few small steps of its network on the real data and the images still to be seen."""
    import torch

    from cl_semisup.execution.data import Probed, place, read
    from cl_semisup.execution.machine import Machine
    from cl_semisup.execution.trained import Trained, synchronize
    from cl_semisup.settings import Views
    from cl_semisup.views import ViewMaker

    torch.set_num_threads(1)  # as in a worker
    machine = Machine(device, suite.data_dir)
    images_of = partial(read, data_dir=suite.data_dir)
    data = place(images_of(run.dataset), torch.device(device))
    images, tests = len(data.train_images), len(data.test_images)
    if not run.epochs or not run.batch_size:
        return 0.0, PROBE_SECONDS
    trained = Trained(trainings.alone(run), machine, Probed(images_of))
    _, model = trained.build(data)
    views = ViewMaker(Views(**run.views), data.mean, data.std)
    batch = data.train_images[: min(run.batch_size, MEASURED_BATCH)].to(trained.device)
    half = trained.precision == "bfloat16"

    def step(number: int) -> None:
        with torch.autocast(trained.device.type, torch.bfloat16, enabled=half):
            both = torch.cat([views(batch, 2 * number), views(batch, 2 * number + 1)])
            model.projector(model.encoder(both)).float().square().mean().backward()

    try:
        for number in range(2 * MEASURED_STEPS):
            if number == MEASURED_STEPS:  # those before also paid for warming up
                synchronize(trained.device)
                began = time.perf_counter()
            step(number)
        synchronize(trained.device)
    except RuntimeError as error:
        raise InputError(f"a few steps ended as {type(error).__name__}: {str(error).splitlines()[0]}") from error
    rate = MEASURED_STEPS * len(batch) / (time.perf_counter() - began)
    # A step is forward and backward (about 3 forwards) of two views; evaluation is one forward of train and 3 of test.
    return run.epochs * images / rate, (images + 3 * tests) / 6 / rate + PROBE_SECONDS
