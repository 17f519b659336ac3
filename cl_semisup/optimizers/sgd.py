from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    Args:
        momentum: share of the last step kept, in [0, 1)
        weight_decay: of weights; biases, normalisation layers and a loss's own parameters have none
        nesterov: look ahead along the momentum
    """

    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    nesterov: bool = False

    def build(self, weights: list[Any], others: list[Any]) -> torch.optim.Optimizer:
        groups = [{"params": weights, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        fused = all(w.device.type in ("cpu", "cuda") for w in weights)
        nesterov = self.nesterov and self.momentum > 0
        optimizer = torch.optim.SGD(groups, lr=1.0, momentum=self.momentum, nesterov=nesterov, fused=fused)
        if self.momentum:  # the fused step needs a buffer for a parameter whose first gradient comes in a later step
            for parameter in (*weights, *others):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
