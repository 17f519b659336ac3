"""How long the runs left will take: from the cost of records that resemble them, else from a few measured steps."""

import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median

from cl_semisup.data import labels
from cl_semisup.errors import InputError
from cl_semisup.execution import training_groups
from cl_semisup.results import records
from cl_semisup.scheduling.progress import words
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

START_SECONDS = 4.0  # imports and the first data set, on this side of the first step
PROBE_SECONDS = 0.5  # probes of one run where nothing is known of them
MEASURED_BATCH = 64  # images a step when a run is measured; large enough to keep a core busy
MEASURED_STEPS = 4  # at most
MEASURED_SECONDS = 1.0  # after which no further step is begun
WORTH = 1.3  # times as fast, from which on bfloat16 is worth a word
LONG = 60.0  # seconds of a run's training, from which on it is
Seconds = tuple[float, float]  # of training and of evaluation


def sentence(results: Path, suite: Suite, todo: list[Run], device: str, workers: int | None) -> str:
    """The estimate in words, with where it comes from."""
    if not todo:
        return "Nothing is left to do."
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.execution.machine import default_workers

    device = choose_device(device)
    grouped = training_groups.group(todo)
    workers = min(len(grouped), workers or default_workers(device))
    known = _known(results, suite.runs)
    trials: dict[str, _Trial] = {}
    total = 0.0
    for training in grouped:
        run = training.runs[0]
        key = _like(run)
        if key not in known:
            try:
                known[key] = _measured(run, suite, device, trials)
            except InputError as error:
                return f"Time left: unknown, since {error}"
        fit, probe = known[key]
        total += fit + probe * len(training.runs)
    source = f"{len(trials)} kind(s) of run measured for a few steps" if trials else "from finished runs like these"
    left = words(total / workers + START_SECONDS)
    told = f"Time left: about {left} for {len(grouped)} trainings in {workers} process(es) on {device} ({source})."
    longest = max(trials, key=lambda key: known[key], default=None)
    return told + (_advice(trials[longest]) if longest and known[longest][0] >= LONG else "")


def _like(run: Run) -> str:
    """Runs that cost about the same; the loss is left out, since the network dominates."""
    kept = (run.imbalance, run.unlabelled_imbalance, run.unlabelled_ratio)
    labelled = (run.label_fraction, run.labels_per_class) if run.unlabelled_ratio is not None else ()
    return repr((run.dataset, run.encoder, run.epochs, run.batch_size, run.projector, kept, labelled))


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


def _measured(run: Run, suite: Suite, device: str, trials: dict[str, "_Trial"]) -> Seconds:
    """Of a kind of run of which nothing is known; its trial is kept."""
    if not run.epochs:
        return 0.0, PROBE_SECONDS
    trial = trials[_like(run)] = _Trial(run, suite, device)
    return trial.seconds()


def _advice(trial: "_Trial") -> str:
    """What bfloat16 would gain in such runs; not chosen here, since the machine must not change the question."""
    try:
        gain = trial.gain()
    except InputError as error:
        return f"\nWith `precision: bfloat16` {error}"
    told = f"With `precision: bfloat16` training would be {gain:.1f} times as fast here, and a protocol of its own."
    return f"\n{told}" if gain >= WORTH else ""


class _Trial:
    """A few small steps of a run's network on the real data. InputError tells why there are none."""

    def __init__(self, run: Run, suite: Suite, device: str):
        import torch

        from cl_semisup.execution.data import Probed, place, read
        from cl_semisup.execution.machine import Machine
        from cl_semisup.execution.trainer import Trainer, way

        torch.set_num_threads(1)  # as in a worker
        images_of = partial(read, data_dir=suite.data_dir)
        data = place(images_of(run.dataset), torch.device(device))
        indices = labels.of_run(data.train_labels.cpu().numpy(), run.as_dict()).indices
        self.run, self.images, self.tests = run, len(indices), len(data.test_images)
        self.machine = Machine(device, suite.data_dir)
        trained = Trainer(training_groups.single_run(run), self.machine, Probed(images_of))
        self.device, self.precision = trained.device, trained.precision
        self.model, self.views = trained.build(data)[1], trained.views(data)
        with way(self.machine):
            self.encode = trained.fast_encoder(self.model.encoder)
        self.batch = data.train_images[: min(run.batch_size or 0, MEASURED_BATCH)].to(self.device)

    def seconds(self) -> Seconds:
        """Of the whole run, from the images still to be seen."""
        rate = self._rate(self.precision)
        # A step is about 3 forwards of two views, backward included; probes take one forward of train and 3 of test.
        probes = (self.images + 3 * self.tests) / 6 / rate + PROBE_SECONDS
        return self.run.epochs * self.images / rate, probes

    def gain(self) -> float:
        """How many times as fast training would be in bfloat16, where nobody has chosen and a CPU chooses float32."""
        if self.run.precision != "auto" or self.precision == "bfloat16":
            return 1.0
        return self._rate("bfloat16") / self._rate(self.precision)

    def _rate(self, precision: str) -> float:
        """Images a second."""
        try:
            self._steps(precision)  # which also pay for warming up
            count, seconds = self._steps(precision)
        except RuntimeError as error:
            raise InputError(f"a few steps ended as {type(error).__name__}: {str(error).splitlines()[0]}") from error
        return count * len(self.batch) / seconds

    def _steps(self, precision: str) -> tuple[int, float]:
        """How many were done, and in how many seconds."""
        from cl_semisup.execution.trainer import synchronize, way

        began = time.perf_counter()
        for number in range(MEASURED_STEPS):
            with way(self.machine):
                self._step(number, precision == "bfloat16")
            if time.perf_counter() - began > MEASURED_SECONDS:
                break
        synchronize(self.device)
        return number + 1, time.perf_counter() - began

    def _step(self, number: int, half: bool) -> None:
        import torch

        both = torch.cat([self.views(self.batch, 2 * number), self.views(self.batch, 2 * number + 1)])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            projections = self.model.projector(self.encode(both))
        projections.float().square().mean().backward()
