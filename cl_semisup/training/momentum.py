"""The momentum copy of a network (mean teacher): a slow average of its weights."""

import copy
import math

import torch

from cl_semisup.training.model import Model


def make(model: Model) -> Model:
    """A copy with the same weights that takes no gradient. Its batch norm uses the batch, as in BYOL and MoCo v3."""
    teacher = copy.deepcopy(model)
    teacher.requires_grad_(False)
    return teacher.train()


def decay(between: tuple[float, float], progress: float) -> float:
    """From the first to the last value along half a cosine, as in BYOL."""
    first, last = between
    return last - (last - first) * (math.cos(math.pi * progress) + 1) / 2


@torch.no_grad()
def update(teacher: Model, model: Model, decay: float) -> None:
    """teacher <- decay * teacher + (1 - decay) * model, weights only: running statistics are the teacher's own."""
    torch._foreach_lerp_(list(teacher.parameters()), list(model.parameters()), 1 - decay)
