"""Probes of frozen features, one a file. To add one, write a frozen dataclass whose fields are its settings, with:

    default: ClassVar[bool]              False keeps it out of suites that do not name it; True if left out
    scores: ClassVar[tuple[str, ...]]    names of all scores that it can give
    score_settings: ClassVar[dict]       score -> the setting that switches it on, where there is one
    inputs: ClassVar[str]                "images" for a probe that changes pixels; it is refused on features
    datasets_optional: ClassVar[bool]    True if data sets of its setting `datasets` may be missing
    measure(features) -> ProbeResult     scores are fractions in [0, 1], higher is better

A probe with a setting `layer` measures backbone features, projections or both. The names of what it measures on
projections start with `projection_`, so that a name never changes its meaning.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cl_semisup import plugins
from cl_semisup.data.formats import fitted
from cl_semisup.data.images import Images
from cl_semisup.data.splits import folds
from cl_semisup.errors import InputError

Layer = Literal["features", "projections", "both"]
PROJECTION = "projection_"
CHUNK = 1000  # images of another data set that are resized at once
VALIDATION, LABELLED = "_validation", "_labelled"  # ends of the names of scores
FOLDS = 5  # of visible labels
MANY_LABELS = 500  # one fold of these tells as much as all folds of fewer
Named = dict[str, dict[str, Any]]  # a plug-in and its settings, {"mnist": {}}


@dataclass(frozen=True, eq=False)
class Network:
    """The frozen network and its images, for probes that compute more features or train it further.

    Args:
        encoder: in evaluation mode; a probe that changes its weights puts them back
        train_images, test_images: (M, channels, side, side) and (T, channels, side, side) uint8
        features: uint8 images (N, channels, side, side) -> (N, F), not augmented
        view: number -> (T, F), features of a random view of each test image, by the run's own views
        untrained: as `features`, with the encoder's initial weights, which are drawn again from their seed
        dataset: the images of another data set, by its plug-in; a probe names them in a setting `datasets`
        inputs: uint8 images -> what the encoder takes, not augmented
        augmented: uint8 images, seed -> the same, as random views that change no colours
        copy: a copy of the encoder, for further training
        initial: the encoder with the weights that it had before training, drawn again from their seed
        fast_encoder: an encoder -> a function that encodes batches in training by the run's fast path
        shared: what, tensors, compute -> results that depend on these, on `initial` and on `augmented` alone, and not
            on training: computed by the first run of a repetition that needs them, and read by the others
    """

    encoder: nn.Module
    train_images: Tensor
    test_images: Tensor
    features: Callable[[Tensor], Tensor]
    view: Callable[[int], Tensor]
    untrained: Callable[[Tensor], Tensor]
    dataset: Callable[[Named], Images]
    inputs: Callable[[Tensor], Tensor]
    augmented: Callable[[Tensor, int], Tensor]
    copy: Callable[[], nn.Module]
    initial: Callable[[], nn.Module]
    fast_encoder: Callable[[nn.Module], Callable[[Tensor], Tensor]]
    shared: Callable[[str, Mapping[str, Tensor], Callable[[], dict[str, float]]], dict[str, float]]

    def features_of(self, images: NDArray[np.uint8]) -> Tensor:
        """(N, F) of the images (N, channels', side', side') of another data set, fitted to the encoder's format."""
        _, channels, side, _ = self.test_images.shape
        parts = [images[first : first + CHUNK] for first in range(0, len(images), CHUNK)]
        return torch.cat([self.features(fitted(torch.from_numpy(part), channels, side)) for part in parts])


class FeatureSet(NamedTuple):
    """One output of the network, (M, W) and (T, W), and the prefix of the names of its scores."""

    prefix: str
    train: Tensor
    test: Tensor


class Validation(NamedTuple):
    """Images that trained nothing: features (V, F), projections (V, D) and labels (V,)."""

    features: Tensor
    projections: Tensor
    labels: Tensor


class Increment(NamedTuple):
    """What a run that saw its classes in groups knew after one of them.

    `classes` of the group; `rows` (m,) of its training images; features (m, F) of these, and (T, F) of all test images.
    """

    classes: tuple[int, ...]
    rows: Tensor
    train: Tensor
    test: Tensor


class ClassifierData(NamedTuple):
    """Labelled rows (B, W) with their classes (B,), B >= 1, and the test rows (T, W)."""

    prefix: str
    suffix: str
    train: Tensor
    labels: Tensor
    test: Tensor

    def name(self, score: str) -> str:
        """The name of a score of a classifier that was fitted on these rows."""
        return self.prefix + score + self.suffix


@dataclass(frozen=True, eq=False)
class Features:
    """What probes measure: the frozen network's outputs without augmentation, float32, finite, on the run's device.

    Args:
        train, test: (M, F) and (T, F) backbone features, before the projector; M images that the run trained on
        train_projections, test_projections: (M, D) and (T, D)
        train_labels, test_labels: (M,) and (T,) true labels; -1 in train where the data set itself has none
        visible_labels: (M,) the labels that the run was allowed to see, -1 elsewhere; under label noise some are wrong
        test_views: two (T, F), features of two random views of each test image
        classes: C
        val: the outputs and labels of the data's own validation part, or of the held-out part, if there is one
        seed_key: data set and repetition, for the seeds of what a probe draws
        network: for probes that compute features of more images
        increments: what the network knew after each increment of classes, if they came so
        memo: results of one probe that another may use; they must not depend on the test images
    """

    train: Tensor
    test: Tensor
    train_projections: Tensor
    test_projections: Tensor
    train_labels: Tensor
    test_labels: Tensor
    visible_labels: Tensor
    test_views: tuple[Tensor, Tensor]
    classes: int
    seed_key: tuple[object, ...]
    network: Network | None = None
    val: "Validation | None" = None
    increments: tuple[Increment, ...] = ()
    memo: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {"train": self.train, "test": self.test, "train_projections": self.train_projections}
        named |= {"test_projections": self.test_projections, "test_views": torch.stack(self.test_views)}
        if self.val is not None:
            named |= {"val": self.val.features, "val_projections": self.val.projections}
        for name, values in named.items():
            if not bool(torch.isfinite(values).all()):  # kNN and others would give a plausible score
                got = f"Got {int((~torch.isfinite(values)).sum())} that are not, of {values.numel()}"
                raise InputError(f"probes: {name}: features must be finite. {got}. The network has diverged.")

    def feature_sets(self, layer: Layer) -> list[FeatureSet]:
        """The outputs that a probe's setting names."""
        features = FeatureSet("", self.train, self.test)
        projections = FeatureSet(PROJECTION, self.train_projections, self.test_projections)
        return {"features": [features], "projections": [projections], "both": [features, projections]}[layer]

    def label_sets(self) -> tuple[tuple[str, Tensor], ...]:
        """Suffix of score names and (M,) labels: all true labels, and (`_labelled`) the visible ones."""
        return ("", self.train_labels), (LABELLED, self.visible_labels)

    def classifier_data(self, layer: Layer) -> Iterator[ClassifierData]:
        """For every output and label set, the rows that have a label; nothing where no row has one."""
        for prefix, train, test in self.feature_sets(layer):
            for suffix, labels in self.label_sets():
                known = labels >= 0
                if bool(known.any()):
                    yield ClassifierData(prefix, suffix, train[known], labels[known], test)

    def require_network(self, probe: str, purpose: str) -> Network:
        """The network; raises InputError if there are features alone."""
        if self.network is None:
            raise InputError(f"{probe}: needs the network, to {purpose}. Got features alone. Leave it out.")
        return self.network


@dataclass(frozen=True)
class ProbeResult:
    """Results of a probe: scores rank losses, diagnostics describe them, curves are for reports, cost is in seconds.

    Names are unique over all probes. A score that is not defined is left out. Where a score is the share of test images
    that are classified right, `right` (T,) bool may say which: intervals for new test images need it.
    """

    scores: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict, compare=False)
    right: dict[str, Tensor] = field(default_factory=dict, compare=False)


def measure(features: Features, probes: Mapping[str, Mapping[str, Any]]) -> ProbeResult:
    """The results of all probes of a run, together."""
    result = ProbeResult()
    for name, settings in sorted(probes.items()):
        probed = plugins.load("evaluation", name)(**settings).measure(features)
        _require_own_names(name, settings, probed, result)
        result.scores.update(probed.scores)
        result.diagnostics.update(probed.diagnostics)
        result.curves.update(probed.curves)
        result.cost.update(probed.cost)
        result.right.update(probed.right)
        if features.val is not None:
            result.scores.update(_on_part(name, settings, features, features.val))
    return result


def _require_own_names(name: str, settings: Mapping[str, Any], probed: ProbeResult, others: ProbeResult) -> None:
    """InputError where a probe gives what another one gives, or, being a user's own, scores that it does not name."""
    for part in ("scores", "diagnostics", "curves", "cost"):
        if both := getattr(probed, part).keys() & getattr(others, part).keys():
            raise InputError(f"probes.{name}: {part} need names of their own. Got {min(both)!r} again. Rename it.")
    if plugins.is_users_own("evaluation", name) and (more := probed.scores.keys() - score_names(name, settings)):
        rule = "must name every score that it gives in `scores`"
        raise InputError(f"probes.{name}: {rule}. Got {min(more)!r}, which it does not name. Name it there.")


def validate_by_visible_labels(features: Features, probes: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The `_labelled_validation` scores of all probes, which use no label but the visible ones."""
    scores: dict[str, float] = {}
    for name, settings in sorted(probes.items()):
        scores |= _on_visible_labels(name, settings, features)
    return scores


def _validated(name: str, settings: Mapping[str, Any]) -> list[str]:
    """The scores of a probe that it has validation scores of (`<score>_validation`): these can choose configs."""
    names = score_names(name, settings)
    return [score.removesuffix(VALIDATION) for score in sorted(names) if score.endswith(VALIDATION)]


def _on_part(name: str, settings: Mapping[str, Any], features: Features, val: Validation) -> dict[str, float]:
    """A probe's validation scores on a part that trained nothing; `_labelled_validation` with the visible labels alone.

    They are the probe's scores where the validation part stands in for the test part. So the probe is fitted on the
    same training features, and no probe needs to know of this.
    """
    if not (validated := _validated(name, settings)):
        return {}
    parts: dict[str, Any] = {"test": val.features, "test_projections": val.projections, "test_labels": val.labels}
    stand_in = replace(features, **parts, test_views=(val.features, val.features), val=None, increments=())
    found = plugins.load("evaluation", name)(**settings).measure(stand_in).scores
    both = [base + suffix for base in validated for suffix in ("", LABELLED)]
    return {base + VALIDATION: found[base] for base in both if base in found}


def _on_visible_labels(name: str, settings: Mapping[str, Any], features: Features) -> dict[str, float]:
    """A probe's `_labelled_validation` scores: learnt from visible labels, measured on others of them.

    Each image with a visible label is tested in its turn by a probe of the other folds; of MANY_LABELS and more, one
    fold is tested. A class with one label is never tested. No score where no class has two.
    """
    validated, visible = _validated(name, settings), features.visible_labels
    fold = _folds_of_visible_labels(visible.cpu().numpy(), features.seed_key)
    if not validated or fold is None:
        return {}
    right: dict[str, float] = {}
    known, tests = visible >= 0, range(1 if int((visible >= 0).sum()) >= MANY_LABELS else int(fold.max()) + 1)
    of_fold = torch.from_numpy(fold).to(visible.device)
    tested = sum(int((of_fold == number).sum()) for number in tests)
    for number in tests:
        kept, held = known & (of_fold != number), of_fold == number
        stand_in = replace(
            features,
            train=features.train[kept],
            train_projections=features.train_projections[kept],
            train_labels=visible[kept],
            visible_labels=torch.full_like(visible[kept], -1),  # else every probe would be fitted twice
            test=features.train[held],
            test_projections=features.train_projections[held],
            test_labels=visible[held],
            test_views=(features.train[held], features.train[held]),
            val=None,
            increments=(),
            memo={},
        )
        found = plugins.load("evaluation", name)(**settings).measure(stand_in).scores
        for base in validated:
            if base in found:
                score = f"{base}{LABELLED}{VALIDATION}"
                right[score] = right.get(score, 0.0) + found[base] * int(held.sum()) / tested
    return right


def _folds_of_visible_labels(visible: NDArray[np.int64], seed_key: tuple[object, ...]) -> NDArray[np.int64] | None:
    """(M,) the fold that tests each image, -1 for none; None if no class has two labels."""
    counts = np.bincount(visible[visible >= 0], minlength=1)
    testable = np.where((visible >= 0) & (counts[visible] > 1), visible, -1)
    if not (testable >= 0).any():
        return None
    return folds(testable, min(FOLDS, int((testable >= 0).sum())), "validation", *seed_key)


def score_names(name: str, settings: Mapping[str, Any]) -> set[str]:
    """The scores that a probe gives with these settings."""
    probe: Any = plugins.load("evaluation", name)
    with plugins.plugin_errors("evaluation", name):
        switches = getattr(probe, "score_settings", {}).items()
        off = {score for score, key in switches if not settings.get(key, getattr(probe, key))}
        scores = set(probe.scores) - off
    if (layer := settings.get("layer", "both")) == "both":
        return scores
    return {score for score in scores if score.startswith(PROJECTION) == (layer == "projections")}


def evenly(rows: int, limit: int) -> Tensor:
    """Indices of at most `limit` of the rows, evenly spaced, because data sets may be sorted by class."""
    return torch.linspace(0, rows - 1, min(limit, rows), dtype=torch.float64).round().long()


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share of (T,) predictions that are right."""
    return float((predictions == labels).double().mean())


def class_accuracy(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C,) accuracy on the test images of each class, float64; NaN for a class without any."""
    right = torch.bincount(labels[predictions == labels], minlength=classes).double()
    return right / torch.bincount(labels, minlength=classes)
