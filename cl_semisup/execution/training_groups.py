"""Groups of runs that share one training: runs that differ only in settings that training does not depend on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cl_semisup.errors import stops_process
from cl_semisup.results.records import Record
from cl_semisup.suite import renamed
from cl_semisup.suite.run import Run, digest

if TYPE_CHECKING:
    from cl_semisup.losses import Requirements

PROBE_KEYS = ("probes",)  # settings that are read after training
LABEL_KEYS = ("label_fraction", "labels_per_class", "unlabelled_classes", "label_noise")  # which labels a run may see
SUBSAMPLING_KEYS = ("unlabelled_ratio", "unlabelled_imbalance", "unlabelled_from")  # drop images by their labels
RunResults = tuple[tuple[Record, dict[str, Any]], ...]  # (record, curves) of each run of a group


@dataclass(frozen=True)
class TrainingGroup:
    """One training and its runs, at least one: an engine's unit of work. `id` names its claim and its state on disk."""

    id: str
    runs: tuple[Run, ...]


Finished = tuple[TrainingGroup, RunResults]


def single_run(run: Run) -> TrainingGroup:
    """A group of one run."""
    return TrainingGroup(run.id, (run,))


def group(runs: Iterable[Run]) -> list[TrainingGroup]:
    """The groups of these runs, in the order of their first runs."""
    label_free: dict[str, bool] = {}  # loss and its settings -> whether training is independent of labels
    groups: dict[str, list[Run]] = {}
    for run in runs:
        loss = repr(run.loss)
        if loss not in label_free:
            label_free[loss] = not run.epochs or _is_label_free(run)
        groups.setdefault(_id(run, label_free[loss]), []).append(run)
    return [TrainingGroup(key, tuple(members)) for key, members in groups.items()]


def _id(run: Run, label_free: bool) -> str:
    """The hash of all settings that training depends on. A new setting counts, unless it is listed above."""
    ignores_labels = label_free and all(getattr(run, key) is None for key in SUBSAMPLING_KEYS)
    ignored = PROBE_KEYS + LABEL_KEYS if ignores_labels else PROBE_KEYS
    settings = {key: getattr(run, key) for key in run.__dataclass_fields__ if key not in ignored}
    if run.validation != "held_out":  # the other settings choose after training
        del settings["validation"]
    settings = renamed.first_words({key: value for key, value in settings.items() if value is not None})
    return digest({"training": settings})


def requirements(run: Run) -> "Requirements | None":
    """What the run's loss asks for; None if it cannot be built. Executing the run then reports the error."""
    from cl_semisup import losses

    (name, settings) = next(iter(run.loss.items()))
    try:  # the answer depends on the settings of a loss and not on these sizes
        return losses.requirements_of(losses.build(name, dim=run.projector["dim"], classes=2, images=2, **settings))
    except BaseException as error:  # a user's own plug-in may raise anything
        if stops_process(error):
            raise
        return None


def _is_label_free(run: Run) -> bool:
    """Whether the loss declares that training does not depend on labels. The loop then hides labels from it."""
    needed = requirements(run)
    return needed is not None and needed.free_of_labels
