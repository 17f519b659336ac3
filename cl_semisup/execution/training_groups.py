"""Which runs are answered by one training: those that differ only in what training does not see."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cl_semisup.results.records import Record
from cl_semisup.suite import renamed
from cl_semisup.suite.run import Run, digest

if TYPE_CHECKING:
    from cl_semisup.losses import Asks

EVALUATED = ("probes",)  # settings that are read once training is over
SHOWN = ("label_fraction", "labels_per_class", "unlabelled_classes", "label_noise")  # which labels a run may see
KEEPING = ("unlabelled_ratio", "unlabelled_imbalance")  # with these, the labels decide which images are kept
RunResults = tuple[tuple[Record, dict[str, Any]], ...]  # the record and the curves of each run of a training


@dataclass(frozen=True)
class TrainingGroup:
    """What an engine executes as one: a training and the runs that are evaluated on it, one or more.

    `id` names its claim and its state on disk.
    """

    id: str
    runs: tuple[Run, ...]


Finished = tuple[TrainingGroup, RunResults]


def single_run(run: Run) -> TrainingGroup:
    """A run as a training of its own."""
    return TrainingGroup(run.id, (run,))


def group(runs: Iterable[Run]) -> list[TrainingGroup]:
    """The trainings that answer these runs, in the order of their first ones."""
    free: dict[str, bool] = {}  # whether a loss, with its settings, trains without labels
    found: dict[str, list[Run]] = {}
    for run in runs:
        key = repr(run.loss)
        if key not in free:
            free[key] = not run.epochs or _free_of_labels(run)
        found.setdefault(_id(run, free[key]), []).append(run)
    return [TrainingGroup(key, tuple(members)) for key, members in found.items()]


def _id(run: Run, free: bool) -> str:
    """The hash of all that training sees. What is not known to be left out counts, so a later axis is safe."""
    labels_unseen = free and all(getattr(run, axis) is None for axis in KEEPING)
    unseen = EVALUATED + SHOWN if labels_unseen else EVALUATED
    seen = {key: getattr(run, key) for key in run.__dataclass_fields__ if key not in unseen}
    seen = renamed.first_words({key: value for key, value in seen.items() if value is not None})
    return digest({"training": seen})


def requirements(run: Run) -> "Asks | None":
    """What the run's loss declares; None where it cannot be built, which its own runs will tell."""
    from cl_semisup import losses

    (name, settings) = next(iter(run.loss.items()))
    try:  # what a loss asks for depends on its settings and not on these sizes
        return losses.asks(losses.build(name, dim=run.projector["dim"], classes=2, images=2, **settings))
    except Exception:
        return None


def _free_of_labels(run: Run) -> bool:
    """Does the run's loss train the same network whatever the labels are? By what it declares, which is held to it."""
    declared = requirements(run)
    return declared is not None and declared.free_of_labels
