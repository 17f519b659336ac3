"""The EMA model (mean teacher, momentum encoder): a copy of the network with slowly averaged weights."""

import copy
import math

import torch

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
def update(ema_model: Model, model: Model, decay: float) -> None:
    """ema_model <- decay * ema_model + (1 - decay) * model. Weights only; each has its own running statistics."""
    torch._foreach_lerp_(list(ema_model.parameters()), list(model.parameters()), 1 - decay)
