"""One probe a file: `measure(embedded)` -> scores (fractions in [0, 1]) and diagnostics, on frozen embeddings.

`default = False` keeps a probe out of suites that do not name it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cl_semisup import plugins


@dataclass(frozen=True, eq=False)
class Embedded:
    """What probes see: the frozen network's outputs without augmentation, float32, on the run's device.

    Args:
        train, test: (M, F) and (T, F) backbone features, before the projector
        train_projections, test_projections: (M, D) and (T, D)
        train_labels, test_labels: (M,) and (T,) true labels; -1 in train where the data set itself has none
        shown: (M,) the labels that the run was allowed to see, -1 elsewhere
        test_views: two (T, F), features of two random views of each test image
        classes: C
        names: name the probe's own draws (data set and repetition)
    """

    train: Tensor
    test: Tensor
    train_projections: Tensor
    test_projections: Tensor
    train_labels: Tensor
    test_labels: Tensor
    shown: Tensor
    test_views: tuple[Tensor, Tensor]
    classes: int
    names: tuple[object, ...]


@dataclass(frozen=True)
class Measured:
    """What a probe found: scores rank losses, diagnostics describe them; names are unique over all probes."""

    scores: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)


def measure(embedded: Embedded, evaluation: Mapping[str, Mapping[str, Any]]) -> Measured:
    """All probes that a run asks for."""
    found = Measured()
    for name, settings in sorted(evaluation.items()):
        probe = plugins.load("evaluation", name)(**settings).measure(embedded)
        found.scores.update(probe.scores)
        found.diagnostics.update(probe.diagnostics)
    return found
