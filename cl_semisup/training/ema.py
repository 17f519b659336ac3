"""The EMA model (mean teacher, momentum encoder): a copy of the network with slowly averaged weights."""

import copy
import math

import torch
from torch import Tensor

from cl_semisup.training.changing import Changing
from cl_semisup.training.model import Model


def make(model: Model) -> Model:
    """A copy that takes no gradient. Its batch norm uses the statistics of the batch, as in BYOL and MoCo v3."""
    ema_model = copy.deepcopy(model)
    ema_model.requires_grad_(False)
    return ema_model.train()


def decay(first_and_last: tuple[float, float], progress: float) -> float:
    """The decay at a share of training in [0, 1]: from first to last along half a cosine, as in BYOL."""
    first, last = first_and_last
    return last - (last - first) * (math.cos(math.pi * progress) + 1) / 2


@torch.no_grad()
def update(ema_model: Model, model: Model, decay: float | Changing) -> None:
    """ema_model <- decay * ema_model + (1 - decay) * model. Weights only; each has its own running statistics."""
    averages: list[Tensor] = list(ema_model.parameters())
    weights: list[Tensor] = list(model.parameters())
    share = 1 - decay
    if isinstance(share, Changing):
        on_device = share.tensor()
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, on_device)
    else:
        torch._foreach_lerp_(averages, weights, share)
