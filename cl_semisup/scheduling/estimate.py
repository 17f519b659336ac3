"""How long the runs left will take: from finished runs that are similar, else from a few measured steps."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median

from cl_semisup import plugins
from cl_semisup.data import labels
from cl_semisup.errors import described
from cl_semisup.execution import training_groups
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.results import records
from cl_semisup.scheduling.progress import format_duration
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

START_SECONDS = 4.0  # imports and the first data set, before the first step
PROBE_SECONDS = 0.5  # probes of one run, if no such run has finished
MEASURED_BATCH = 64  # images a step when a run is measured; large enough to keep a core busy
MEASURED_STEPS = 4  # at most
MEASURED_STEPS_ON_GPU = 20
MEASURED_SECONDS = 1.0  # after which no further step is begun
MIN_SPEEDUP = 1.3  # of bfloat16, for it to be mentioned
LONG_RUN_SECONDS = 60.0  # of training; bfloat16 is not mentioned for shorter runs
Seconds = tuple[float, float]  # of training and of evaluation


class NotMeasured(Exception):
    """Why a few steps could not be done on this machine. This is no fault of the suite or the data."""


def describe(results: Path, suite: Suite, todo: list[Run], device: str, workers: int | None) -> str:
    """The time left, as a sentence that also says where the estimate comes from. InputError: a run cannot be done."""
    if not todo:
        return "Nothing is left to do."
    from cl_semisup.execution.execute import choose_device
    from cl_semisup.execution.workers import of

    device = choose_device(device)
    trainings = training_groups.group(todo)
    processes = of(device, len(trainings), workers)
    sure = min(len(processes.devices), processes.most) if processes.measured else processes.most
    costs, trials = _finished_costs(results, suite.runs), dict[str, _Trial]()
    try:
        _measure(trainings, suite, device, costs, trials)
    except NotMeasured as error:
        return f"Time left: unknown, since {error}"
    total = sum(_seconds(training, costs) for training in trainings)
    source = f"{len(trials)} kind(s) of run measured for a few steps" if trials else "from finished runs like these"
    left = format_duration(total / sure + START_SECONDS)
    text = f"Time left: about {left} for {len(trainings)} trainings in {sure} process(es) on {device} ({source})."
    if processes.measured:
        least = format_duration(total / processes.most + START_SECONDS)
        text += f" If up to {processes.most} at once are faster, which the first ones tell, down to {least}."
    longest = max(trials, key=lambda key: costs[key], default=None)
    return text + (_advice(trials[longest]) if longest and costs[longest][0] >= LONG_RUN_SECONDS else "")


def expected(results: Path, suite: Suite, todo: list[Run], device: str | None) -> Callable[[TrainingGroup], float]:
    """Seconds of a training and its evaluations, 0 where nothing is known. Without a device no step is measured."""
    costs = _finished_costs(results, suite.runs)
    if device is not None:
        with suppress(NotMeasured):
            _measure(training_groups.group(todo), suite, device, costs, {})
    return lambda training: _seconds(training, costs) if _cost_key(training.runs[0]) in costs else 0.0


def _measure(
    trainings: Iterable[TrainingGroup],
    suite: Suite,
    device: str,
    costs: dict[str, Seconds],
    trials: dict[str, "_Trial"],
) -> None:
    """Add the costs of trainings that are like no finished one, and the trials that measured them."""
    for run in (training.runs[0] for training in trainings):
        if run.epochs and (key := _cost_key(run)) not in costs:
            trials[key] = _Trial(run, suite, device)
            costs[key] = trials[key].seconds()


def _seconds(training: TrainingGroup, costs: Mapping[str, Seconds]) -> float:
    train, evaluation = costs.get(_cost_key(training.runs[0]), (0.0, PROBE_SECONDS))
    return train + evaluation * len(training.runs)


def _cost_key(run: Run) -> str:
    """Runs with the same key cost about the same; the loss is left out, since the network dominates."""
    sampling = (run.imbalance, run.unlabelled_imbalance, run.unlabelled_ratio, run.unlabelled_from)
    labelled = (run.label_fraction, run.labels_per_class) if run.unlabelled_ratio is not None else ()
    return repr((run.dataset, run.encoder, run.epochs, run.batch_size, run.projector, sampling, labelled))


def _finished_costs(results: Path, runs: tuple[Run, ...]) -> dict[str, Seconds]:
    """Cost key -> median over the finished runs."""
    costs = defaultdict(list)
    record_of = records.read_all(results, runs)
    for run in runs:
        record = record_of.get(run.id)
        if record and record["status"] in ("ok", "collapsed") and "stopped_at_step" not in record["resolved"]:
            cost = record["cost"]
            costs[_cost_key(run)].append((cost.get("train_seconds", 0.0), cost.get("evaluation_seconds", 0.0)))
    return {key: (median(train for train, _ in s), median(probe for _, probe in s)) for key, s in costs.items()}


def _advice(trial: "_Trial") -> str:
    """What bfloat16 would gain. It is only advice, since results must not depend on the machine's speed."""
    try:
        speedup = trial.speedup()
    except NotMeasured as error:
        return f"\nWith `precision: bfloat16` {error}"
    text = f"With `precision: bfloat16` training would be {speedup:.1f} times as fast here, and a protocol of its own."
    return f"\n{text}" if speedup >= MIN_SPEEDUP else ""


class _Trial:
    """A few small steps of a run's network on the real data; NotMeasured if they fail."""

    def __init__(self, run: Run, suite: Suite, device: str):
        import torch

        from cl_semisup.device import prepare
        from cl_semisup.execution import run_views
        from cl_semisup.execution.data import ProbeDatasets, load_images, to_device
        from cl_semisup.execution.fast_paths import kernel_context
        from cl_semisup.execution.machine import Machine
        from cl_semisup.execution.trainer import Trainer

        torch.set_num_threads(1)  # as in a worker
        prepare(torch.device(device))
        images_of = partial(load_images, data_dir=suite.data_dir)
        data = to_device(images_of(run.dataset).of_repetition(run.repetition), torch.device(device))
        indices = labels.of_run(data.train_labels.cpu().numpy(), run.as_dict()).indices
        self.run, self.images, self.tests = run, len(indices), len(data.test_images)
        self.machine = Machine(device, suite.data_dir)
        trainer = Trainer(training_groups.single_run(run), self.machine, ProbeDatasets(images_of))
        self.device, self.precision = trainer.device, trainer.precision
        with plugins.plugin_errors("encoders", next(iter(run.encoder))):
            self.model, self.views = trainer.build(data)[1], run_views.full(run, data)
        with kernel_context(self.machine):
            self.encode = trainer.fast_encoder(self.model.encoder)
        on_cpu = self.device.type == "cpu"  # a GPU takes hardly longer for a larger batch, until it is full
        self.most_steps = MEASURED_STEPS if on_cpu else MEASURED_STEPS_ON_GPU
        size = min(run.batch_size or 0, MEASURED_BATCH) if on_cpu else run.batch_size
        stored = data.train_images if data.larger_images is None else data.larger_images
        self.batch = stored[:size].to(self.device)

    def seconds(self) -> Seconds:
        """Of the whole run."""
        rate = self._images_per_second(self.precision)
        # A step costs about 3 forwards of two views, backward included; probes cost one forward of train and 3 of test.
        probes = (self.images + 3 * self.tests) / 6 / rate + PROBE_SECONDS
        return self.run.epochs * self.images / rate, probes

    def speedup(self) -> float:
        """Of bfloat16 over the precision chosen for this device; 1 if the suite sets the precision."""
        if self.run.precision != "auto" or self.precision == "bfloat16":
            return 1.0
        return self._images_per_second("bfloat16") / self._images_per_second(self.precision)

    def _images_per_second(self, precision: str) -> float:
        try:
            self._steps(precision)  # warm-up
            count, seconds = self._steps(precision)
        except Exception as error:
            users_own = plugins.is_users_own("encoders", next(iter(self.run.encoder)))
            if not (users_own or isinstance(error, RuntimeError)):
                raise
            raise NotMeasured(f"a few steps ended as {described(error).splitlines()[0]}") from error
        return count * len(self.batch) / seconds

    def _steps(self, precision: str) -> tuple[int, float]:
        """Train a few steps: how many, and their seconds."""
        from cl_semisup.device import synchronize
        from cl_semisup.execution.fast_paths import kernel_context

        start_time = time.perf_counter()
        for number in range(self.most_steps):
            with kernel_context(self.machine):
                self._step(number, precision == "bfloat16")
            if time.perf_counter() - start_time > MEASURED_SECONDS:
                break
        synchronize(self.device)
        return number + 1, time.perf_counter() - start_time

    def _step(self, number: int, bfloat16: bool) -> None:
        import torch

        both = torch.cat([self.views(self.batch, 2 * number), self.views(self.batch, 2 * number + 1)])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            projections = self.model.projector(self.encode(both))
        projections.float().square().mean().backward()
