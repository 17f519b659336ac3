"""What a loss may need beyond two projections: `Asks(needs=...)` names entries of NEEDS, the loop hands each over.

A need is a value computed in every step and, where it has weights, a head of the model. Adding one is adding an entry.
Tuples hold one tensor a view, in the order of the views that the loss asks for.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cl_semisup.training.chunks import apart
from cl_semisup.training.model import HeadBuilder, Model
from cl_semisup.training.parallel import on_shards

PerView = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """What is at hand in a step of N images in V views.

    `inputs`, `features`, `projections`: V tensors (N, ...) each; `index` (N,) positions in the training set; `progress`
    share of all steps done, in [0, 1); `teacher` the momentum copy, if asked for; `support` (z (S, D), labels (S,));
    `pixels` two (channels, 1, 1): what black and white, 0 and 1, are among the inputs; `chunks` in how many parts a
    batch goes through an encoder.
    """

    model: Model
    teacher: Model | None
    inputs: PerView
    features: PerView
    projections: PerView
    index: Tensor
    epoch: int
    progress: float
    support: tuple[Tensor, Tensor] | None
    pixels: tuple[Tensor, Tensor]
    chunks: int = 1

    @cached_property
    def teacher_features(self) -> PerView:
        """The momentum copy's features of the same views, once a step; its batch norm sees the batch too."""
        teacher = self.teacher
        assert teacher is not None  # the loop makes one for every need with `momentum`
        (features,) = on_shards(lambda shard: (apart(teacher.encoder, shard, self.chunks),), torch.cat(self.inputs))
        return features.float().chunk(len(self.inputs))


@dataclass(frozen=True)
class Need:
    """How a need is met: `value(step)` in every step; `head(features, classes)` builds its weights, if it has any."""

    value: Callable[[Step], Any]
    head: HeadBuilder | None = None
    momentum: bool = False


def classifier(features: int, classes: int) -> nn.Module:
    """The linear head behind the logits."""
    return nn.Linear(features, classes)


def heads(needs: Iterable[str]) -> dict[str, HeadBuilder]:
    """Name -> builder of every head behind these needs; two needs may share one."""
    builders = (NEEDS[need].head for need in needs)
    return {build.__name__: build for build in builders if build}


def _logits(model: Model, features: PerView) -> PerView:
    return tuple(model.heads["classifier"](view) for view in features)


@torch.no_grad()
def _of_teacher(step: Step, what: str) -> PerView:
    """The momentum copy's outputs, without a gradient."""
    teacher, features = step.teacher, step.teacher_features
    assert teacher is not None
    if what == "features":
        return features
    if what == "logits":
        return _logits(teacher, features)
    (projections,) = on_shards(lambda shard: (teacher.projector(shard),), torch.cat(features))
    return projections.float().chunk(len(features))


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norm uses the batch and leaves its running statistics as they are."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.track_running_stats = tracked


def _encode(step: Step) -> Callable[[Tensor], Tensor]:
    """Inputs (n, channels, side, side) -> projections (n, D), with a gradient to the inputs."""

    def encode(inputs: Tensor) -> Tensor:
        with _statistics_kept(step.model):
            (projections,) = on_shards(lambda shard: (step.model.projector(step.model.encoder(shard)),), inputs)
            return projections.float()

    return encode


NEEDS: dict[str, Need] = {
    "features": Need(lambda step: step.features),  # V x (N, F), of the backbone
    "projections": Need(lambda step: step.projections),  # V x (N, D); z1 and z2 are the first two
    "logits": Need(lambda step: _logits(step.model, step.features), classifier),  # V x (N, C), of a linear classifier
    "index": Need(lambda step: step.index),  # (N,) positions in the training set
    "epoch": Need(lambda step: step.epoch),  # int, epochs done
    "progress": Need(lambda step: step.progress),  # float in [0, 1), share of all steps done
    "inputs": Need(lambda step: step.inputs),  # V x (N, channels, side, side), normalised
    "encode": Need(_encode),  # inputs -> projections, differentiable; running statistics stay as they are
    "pixels": Need(lambda step: step.pixels),  # 2 x (channels, 1, 1), a black and a white pixel as inputs
    "support": Need(lambda step: step.support),  # (z (S, D), labels (S,)) of labelled images, the same number a class
    "momentum_features": Need(lambda step: _of_teacher(step, "features"), momentum=True),  # V x (N, F)
    "momentum_projections": Need(lambda step: _of_teacher(step, "projections"), momentum=True),  # V x (N, D)
    "momentum_logits": Need(lambda step: _of_teacher(step, "logits"), classifier, momentum=True),  # V x (N, C)
}
