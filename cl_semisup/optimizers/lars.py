from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval


@dataclass(frozen=True)
class LARS:
    """Layer-wise adaptive rate scaling: every weight tensor moves in proportion to its own norm.

        g <- g + decay * w;    ratio = trust * |w| / |g|, 1 if either is 0
        m <- momentum * m + ratio * g;    w <- w - lr * m

    Biases and normalisation layers take plain momentum steps, as in SimCLR and Barlow Twins.
    The LARS of CLOP's authors adapts biases as well.

    Source: arXiv 1708.03888; facebookresearch/barlowtwins main.py
    Difference: None

    Args:
        momentum: share of the last step kept, in [0, 1)
        weight_decay: of weights
        trust: trust coefficient, > 0
    """

    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 1e-6
    trust: Annotated[float, Gt(0)] = 1e-3

    def build(self, weights: list[Any], others: list[Any]) -> torch.optim.Optimizer:
        groups = [{"params": weights, "adapt": True}, {"params": others, "adapt": False}]
        return _Lars(groups, self.momentum, self.weight_decay, self.trust)


class _Lars(torch.optim.Optimizer):
    """Updates all tensors of a group in a few multi-tensor calls; without `foreach`, one tensor at a time."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float, weight_decay: float, trust: float):
        super().__init__(groups, dict(lr=1.0, momentum=momentum, weight_decay=weight_decay, trust=trust, foreach=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            updated = [p for p in group["params"] if p.grad is not None]
            for parameters in [updated] if group["foreach"] and updated else [[p] for p in updated]:
                self._update(parameters, group)

    def _update(self, parameters: list[Any], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters]
        if group["adapt"]:
            gradients = self._scaled(parameters, gradients, group["weight_decay"], group["trust"])
        for p in parameters:
            self.state[p].setdefault("momentum", torch.zeros_like(p))
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        if isinstance(group["lr"], torch.Tensor):  # of a step that is recorded
            torch._foreach_sub_(parameters, torch._foreach_mul(momenta, group["lr"]))
        else:
            torch._foreach_add_(parameters, momenta, alpha=-group["lr"])

    @staticmethod
    def _scaled(weights: list[Any], gradients: list[Any], decay: float, trust: float) -> list[Any]:
        gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
        weight_norms = torch.stack(torch._foreach_norm(weights))
        gradient_norms = torch.stack(torch._foreach_norm(gradients))
        ratios = torch.where((weight_norms > 0) & (gradient_norms > 0), trust * weight_norms / gradient_norms, 1.0)
        return list(torch._foreach_mul(gradients, list(ratios.unbind())))
