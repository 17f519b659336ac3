"""Which trainings go first: the longest, so that none of them is left over when everything else is done."""

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

SAMPLE = 3  # records of a kind that are looked at
Length = Callable[[Run], float]  # of a training, in some unit


def longest_first(todo: Iterable[TrainingGroup], length: Length) -> list[TrainingGroup]:
    """Those of one length stay in the suite's order. No result depends on it, for seeds are made of names."""
    return sorted(todo, key=lambda training: -length(training.runs[0]))


def expected(results: Path, suite: Suite) -> Length:
    """Images to be seen, by the seconds that an image took in finished runs of the suite that are alike, if any."""
    images = _seen(suite)
    rates: defaultdict[str, list[float]] = defaultdict(list)
    for run in suite.runs:
        kinds = _kinds(run)
        if run.epochs and len(rates[kinds[0]]) < SAMPLE and (seconds := _spent(results, run)):
            for kind in kinds:
                rates[kind].append(seconds / images(run))
    usual = {kind: median(found) for kind, found in rates.items() if found}
    return lambda run: images(run) * next((usual[kind] for kind in _kinds(run) if kind in usual), 1.0)


def _kinds(run: Run) -> tuple[str, str, str]:
    """What makes the images of two runs cost about the same: all that matters; the network; nothing is known."""
    network = repr((run.dataset, run.encoder))
    return repr((network, run.loss, run.batch_size, run.projector)), network, ""


def _seen(suite: Suite) -> Length:
    """How many images a run sees, every view of every epoch; 0 for an untrained one."""
    counts: dict[str, int] = {}  # images of a data set, views of a loss

    def seen(run: Run) -> float:
        if not run.epochs:
            return 0.0
        data, loss = repr(run.dataset), repr(run.loss)
        if data not in counts:
            (name, settings) = next(iter(run.dataset.items()))
            counts[data] = plugins.load("datasets", name)(**settings).facts(Path(suite.data_dir)).train
        if loss not in counts:
            asked = training_groups.requirements(run)
            counts[loss] = len(asked.views) if asked else 2
        return float(run.epochs * counts[data] * counts[loss])

    return seen


def _spent(results: Path, run: Run) -> float:
    """Seconds of its training; 0 without a record of one that came to its end."""
    path = records.path_of(results, run)
    try:
        record = records.read(path) if path.exists() else None
    except ResultsError:  # it counts as done, and the report will say what is wrong with it
        return 0.0
    return float(record["cost"].get("train_seconds", 0.0)) if record and record["status"] != "failed" else 0.0
