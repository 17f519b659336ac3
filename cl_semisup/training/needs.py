"""What a loss may ask for beyond two projections. A loss declares names in `needs`; the loop hands each over.

A need is a value computed in every step and, where it has weights, a part of the model. Adding one is adding an entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from cl_semisup.training.model import Model


@dataclass(frozen=True)
class Step:
    """What is at hand in a step: the model, h (2N, F) and z (2N, D) of both views, image indices (N,), the epoch."""

    model: "Model"
    features: Tensor
    projections: Tensor
    index: Tensor
    epoch: int


@dataclass(frozen=True)
class Need:
    """How a need is met: `value(step)` in every step; `part(model, classes)` once, where it has weights."""

    value: Callable[[Step], Any]
    part: Callable[["Model", int], nn.Module] | None = None


NEEDS: dict[str, Need] = {
    # (h1, h2), two (N, F): backbone features of the views
    "features": Need(lambda step: step.features.chunk(2)),
    # two (N, C): a linear classifier on the features
    "logits": Need(
        lambda step: step.model.parts["logits"](step.features).chunk(2),
        lambda model, classes: nn.Linear(model.feature_dim, classes),
    ),
    # (N,): the position of every image in the training set
    "index": Need(lambda step: step.index),
    # int: epochs done
    "epoch": Need(lambda step: step.epoch),
}
