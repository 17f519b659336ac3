from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval

from cl_semisup.config.added_later import AddedLater


@dataclass(frozen=True)
class LARS:
    """Layer-wise adaptive rate scaling: every weight tensor moves in proportion to its own norm.

        g <- g + decay * w;    ratio = trust * |w| / |g|, 1 if either is 0
        m <- momentum * m + ratio * g;    w <- w - lr * m

    With `clip` the ratio is min(ratio / lr, 1): a weight moves at the rate min(lr, ratio) instead of lr * ratio.
    Biases and normalisation layers take plain momentum steps, as in SimCLR and Barlow Twins.
    The LARS of CLOP's authors adapts biases as well.

    Source: arXiv 1708.03888; facebookresearch/barlowtwins main.py; `clip` is clip_lr of
        vturrisi/solo-learn@9187ee3 solo/utils/lars.py
    Difference: solo-learn divides by |gradient| + decay * |w|, here by the norm of their sum

    Args:
        momentum: share of the last step kept, in [0, 1)
        weight_decay: of weights
        trust: trust coefficient, > 0
        clip: whether lr is a bound and not a factor
    """

    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 1e-6
    trust: Annotated[float, Gt(0)] = 1e-3
    clip: Annotated[bool, AddedLater()] = False

    def build(self, weights: list[Any], others: list[Any]) -> torch.optim.Optimizer:
        groups = [{"params": weights, "adapt": True}, {"params": others, "adapt": False}]
        settings = dict(momentum=self.momentum, weight_decay=self.weight_decay, trust=self.trust, clip=self.clip)
        return _Lars(groups, settings)


class _Lars(torch.optim.Optimizer):
    """Updates all tensors of a group in a few multi-tensor calls; without `foreach`, one tensor at a time."""

    def __init__(self, groups: list[dict[str, Any]], settings: dict[str, Any]):
        super().__init__(groups, dict(lr=1.0, foreach=True) | settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            updated = [p for p in group["params"] if p.grad is not None]
            for parameters in [updated] if group["foreach"] and updated else [[p] for p in updated]:
                self._update(parameters, group)

    def _update(self, parameters: list[Any], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters]
        if group["adapt"]:
            gradients = self._scaled(parameters, gradients, group)
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
    def _scaled(weights: list[Any], gradients: list[Any], group: dict[str, Any]) -> list[Any]:
        gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        weight_norms = torch.stack(torch._foreach_norm(weights))
        gradient_norms = torch.stack(torch._foreach_norm(gradients))
        ratios = group["trust"] * weight_norms / gradient_norms
        if group["clip"]:
            ratios = (ratios / group["lr"]).clamp(max=1.0)
        ratios = torch.where((weight_norms > 0) & (gradient_norms > 0), ratios, 1.0)
        return list(torch._foreach_mul(gradients, list(ratios.unbind())))
