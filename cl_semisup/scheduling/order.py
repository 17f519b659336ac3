"""Which trainings go first: the longest, so that none of them still runs when everything else is done."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from cl_semisup import plugins
from cl_semisup.errors import ResultsError
from cl_semisup.execution import training_groups
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.results import records
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

MAX_RECORDS = 3  # that are read for each group of similar runs
ExpectedSeconds = Callable[[Run], float]  # of the run's training


def longest_first(trainings: Iterable[TrainingGroup], seconds: ExpectedSeconds) -> list[TrainingGroup]:
    """Equally long ones keep the suite's order. No result depends on the order, since seeds are made of names."""
    return sorted(trainings, key=lambda training: -seconds(training.runs[0]))


def expected_seconds(results: Path, suite: Suite) -> ExpectedSeconds:
    """Images of a run x seconds per image of finished runs that are similar; one second per image if there are none."""
    images = _images_of(suite)
    rates: defaultdict[str, list[float]] = defaultdict(list)
    for run in suite.runs:
        keys = _cost_keys(run)
        if run.epochs and len(rates[keys[0]]) < MAX_RECORDS and (seconds := _train_seconds(results, run)):
            for key in keys:
                rates[key].append(seconds / images(run))
    medians = {key: median(values) for key, values in rates.items() if values}
    return lambda run: images(run) * next((medians[key] for key in _cost_keys(run) if key in medians), 1.0)


def _cost_keys(run: Run) -> tuple[str, str, str]:
    """Runs with the same key have similar costs per image. From specific to general: all settings, network, any run."""
    network = repr((run.dataset, run.encoder))
    return repr((network, run.loss, run.batch_size, run.projector)), network, ""


def _images_of(suite: Suite) -> Callable[[Run], float]:
    """Counts the images that a run's training processes: each view in each epoch; 0 for an untrained run."""
    counts: dict[str, int] = {}  # images of a data set, views of a loss with the local ones of a recipe

    def images(run: Run) -> float:
        if not run.epochs:
            return 0.0
        data, loss = repr(run.dataset), repr((run.loss, run.local_views))
        if data not in counts:
            (name, settings) = next(iter(run.dataset.items()))
            counts[data] = plugins.load("datasets", name)(**settings).facts(Path(suite.data_dir)).train
        if loss not in counts:
            requirements = training_groups.requirements(run)
            counts[loss] = len(requirements.views) if requirements else 2
            if requirements and "local_projections" in requirements.needs:
                counts[loss] += run.local_views
        return float(run.epochs * counts[data] * counts[loss])

    return images


def _train_seconds(results: Path, run: Run) -> float:
    """What the run's training took; 0 without a record, if it failed, or if it was stopped early."""
    path = records.path_of(results, run)
    try:
        record = records.read(path) if records.exists(path) else None
    except ResultsError:  # such a run counts as done, and the report will say what is wrong with its record
        return 0.0
    if not record or record["status"] == "failed" or "stopped_at_step" in record["resolved"]:
        return 0.0
    return float(record["cost"].get("train_seconds", 0.0))
