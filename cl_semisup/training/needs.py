"""What a loss may need beyond two projections: `Asks(needs=...)` names entries of NEEDS, the loop hands each over.

A need is a value computed in every step and, where it has weights, a part of the model. Adding one is adding an entry.
Tuples hold one tensor a view, in the order of the views that the loss asks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from cl_semisup.training.model import Model

PerView = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """What is at hand in a step of N images in V views.

    `inputs`, `features`, `projections`: V tensors (N, ...) each; `index` (N,) positions in the training set; `progress`
    share of all steps done, in [0, 1); `teacher` the momentum copy, if asked for; `support` (z (S, D), labels (S,)).
    """

    model: "Model"
    teacher: "Model | None"
    inputs: PerView
    features: PerView
    projections: PerView
    index: Tensor
    epoch: int
    progress: float
    support: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Need:
    """How a need is met: `value(step)` in every step; `part(model, classes)` once, where it has weights."""

    value: Callable[[Step], Any]
    part: Callable[["Model", int], nn.Module] | None = None
    momentum: bool = False


def classifier(model: "Model", classes: int) -> nn.Module:
    """The linear head behind the logits."""
    return nn.Linear(model.feature_dim, classes)


def _logits(model: "Model", features: PerView) -> PerView:
    return tuple(model.parts["classifier"](view) for view in features)


@torch.no_grad()
def _of_teacher(step: Step, what: str) -> PerView:
    """The momentum copy's outputs on the same views, without a gradient; its batch norm sees the batch too."""
    teacher = step.teacher
    assert teacher is not None  # the loop makes one for every need with `momentum`
    features = teacher.encoder(torch.cat(step.inputs)).float()
    per_view = features.chunk(len(step.inputs))
    if what == "features":
        return per_view
    if what == "logits":
        return _logits(teacher, per_view)
    return teacher.projector(features).float().chunk(len(step.inputs))


def _encode(step: Step) -> Callable[[Tensor], Tensor]:
    """Inputs (n, channels, side, side) -> projections (n, D), with a gradient to the inputs."""
    return lambda inputs: step.model.projector(step.model.encoder(inputs)).float()


NEEDS: dict[str, Need] = {
    "features": Need(lambda step: step.features),  # V x (N, F), of the backbone
    "projections": Need(lambda step: step.projections),  # V x (N, D); z1 and z2 are the first two
    "logits": Need(lambda step: _logits(step.model, step.features), classifier),  # V x (N, C), of a linear classifier
    "index": Need(lambda step: step.index),  # (N,) positions in the training set
    "epoch": Need(lambda step: step.epoch),  # int, epochs done
    "progress": Need(lambda step: step.progress),  # float in [0, 1), share of all steps done
    "inputs": Need(lambda step: step.inputs),  # V x (N, channels, side, side), normalised
    "encode": Need(_encode),  # inputs -> projections, differentiable
    "support": Need(lambda step: step.support),  # (z (S, D), labels (S,)) of labelled images, the same number a class
    "momentum_features": Need(lambda step: _of_teacher(step, "features"), momentum=True),  # V x (N, F)
    "momentum_projections": Need(lambda step: _of_teacher(step, "projections"), momentum=True),  # V x (N, D)
    "momentum_logits": Need(lambda step: _of_teacher(step, "logits"), classifier, momentum=True),  # V x (N, C)
}
