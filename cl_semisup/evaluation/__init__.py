"""One probe a file: `measure(embedded)` -> scores (fractions in [0, 1]) and diagnostics, on frozen embeddings.

`default = False` keeps a probe out of suites that do not name it. `scores` names what a probe can give. A probe with a
setting `layer` looks at backbone features, at projections or at both; whatever it finds of projections starts with
`projection_`, so that a name never changes its meaning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.errors import InputError

Layer = Literal["features", "projections", "both"]
PROJECTION = "projection_"
Named = dict[str, dict[str, Any]]  # a plug-in and its settings, {"mnist": {}}


@dataclass(frozen=True, eq=False)
class Network:
    """The frozen network and the test images, for probes that look again.

    Args:
        encoder: in evaluation mode; a probe that changes its weights puts them back
        test_images: (T, channels, side, side) uint8
        features: uint8 images (N, channels, side, side) -> (N, F), not augmented
        view: number -> (T, F), features of a random view of each test image
        untrained: as `features`, of the same encoder with its first weights, which are made again from their names
        dataset: the images of another data set, by its plug-in; a probe names them in a setting `datasets`
    """

    encoder: nn.Module
    test_images: Tensor
    features: Callable[[Tensor], Tensor]
    view: Callable[[int], Tensor]
    untrained: Callable[[Tensor], Tensor]
    dataset: Callable[[Named], Images]


class FeatureSet(NamedTuple):
    """One output of the network, (M, W) and (T, W), and what starts the names of all that is found of it."""

    prefix: str
    train: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """What probes see: the frozen network's outputs without augmentation, float32, on the run's device; all finite.

    Args:
        train, test: (M, F) and (T, F) backbone features, before the projector; M images that the run trained on
        train_projections, test_projections: (M, D) and (T, D)
        train_labels, test_labels: (M,) and (T,) true labels; -1 in train where the data set itself has none
        visible_labels: (M,) the labels that the run was allowed to see, -1 elsewhere; under label noise some are wrong
        test_views: two (T, F), features of two random views of each test image
        classes: C
        names: name the probe's own draws (data set and repetition)
        network: for probes that embed more images
        memo: what one probe has computed and another may use
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
    memo: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {"train": self.train, "test": self.test, "train_projections": self.train_projections}
        named |= {"test_projections": self.test_projections, "test_views": torch.stack(self.test_views)}
        for name, values in named.items():
            if not bool(torch.isfinite(values).all()):  # kNN and others would make a plausible number of them
                got = f"Got {int((~torch.isfinite(values)).sum())} that are not, of {values.numel()}"
                raise InputError(f"probes: {name}: features must be finite. {got}. The network has diverged.")

    def feature_sets(self, layer: Layer) -> list[FeatureSet]:
        """The outputs that a probe was asked to look at."""
        features = FeatureSet("", self.train, self.test)
        projections = FeatureSet(PROJECTION, self.train_projections, self.test_projections)
        return {"features": [features], "projections": [projections], "both": [features, projections]}[layer]

    def label_sets(self) -> tuple[tuple[str, Tensor], ...]:
        """What a classifier may learn from: every true label, and `_labelled` those that the run could see."""
        return ("", self.train_labels), ("_labelled", self.visible_labels)


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found: scores rank losses, diagnostics describe them, curves are for reports.

    Names are unique over all probes. A score that is not defined is left out.
    """

    scores: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)


def measure(embedded: Features, probes: Mapping[str, Mapping[str, Any]]) -> ProbeResult:
    """All probes that a run asks for."""
    found = ProbeResult()
    for name, settings in sorted(probes.items()):
        probe = plugins.load("evaluation", name)(**settings).measure(embedded)
        found.scores.update(probe.scores)
        found.diagnostics.update(probe.diagnostics)
        found.curves.update(probe.curves)
    return found


def score_names(name: str, settings: Mapping[str, Any]) -> set[str]:
    """The scores that a probe gives with these settings."""
    probe: Any = plugins.load("evaluation", name)
    if (layer := settings.get("layer", "both")) == "both":
        return set(probe.scores)
    return {score for score in probe.scores if score.startswith(PROJECTION) == (layer == "projections")}


def evenly(rows: int, most: int) -> Tensor:
    """Numbers of at most `most` rows, evenly spaced: data sets may be sorted by class."""
    return torch.linspace(0, rows - 1, min(most, rows), dtype=torch.float64).round().long()


def accuracy(found: Tensor, labels: Tensor) -> float:
    """Share of (T,) predictions that are right."""
    return float((found == labels).double().mean())


def class_accuracy(found: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C,) accuracy on the test images of each class, float64; NaN for a class without any."""
    right = torch.bincount(labels[found == labels], minlength=classes).double()
    return right / torch.bincount(labels, minlength=classes)
