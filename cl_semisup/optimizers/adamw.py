from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    Source: arXiv 1711.05101

    Args:
        beta1: memory of the mean gradient, in [0, 1)
        beta2: memory of the mean squared gradient, in [0, 1)
        eps: added to the root of the latter, > 0
        weight_decay: of weights; biases, normalisation layers and a loss's own parameters have none
    """

    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Gt(0)] = 1e-8
    weight_decay: Annotated[float, Ge(0)] = 1e-2

    def build(self, weights: list[Any], others: list[Any]) -> torch.optim.Optimizer:
        groups = [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        fused = all(w.device.type in ("cpu", "cuda") for w in weights)
        return torch.optim.AdamW(groups, lr=1.0, betas=(self.beta1, self.beta2), eps=self.eps, fused=fused)
