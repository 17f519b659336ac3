from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views

EPS = 1e-8  # added to squared singular values: the gradient of a root is infinite at 0


@dataclass(frozen=True)
class LORAC:
    """LORAC: MoCo with a low-rank prior, by which all views of an image should lie in a small subspace.

        L = mean over keys k in {1, 2}, other views q, images i of  -log [ e^{l+} / (e^{l+} + sum_m e^{q_i.m / t}) ]
        l+ = q_i.k_i / t - |Q_i|_* / b

    q: unit projections; k: unit projections of the first two views by the momentum copy; m: the remembered keys of the
    other of those two views; |Q_i|_*: the nuclear norm of the stack of all projections and both keys of image i, used
    after the share `start` of training. With two views |Q_i|_* says little more than their similarity.

    Group: further
    Source: arXiv 2108.02696; ssl-codelab/lorac main_lorac.py, models/moco_m.py
    Difference: that code stops dividing by the temperature once the prior starts; here it always divides. Views of one
    size in place of large and small crops
    Degenerate: one image is contrasted with the memory. Labels are ignored.

    Args:
        views: views of each image
        temperature: t, > 0
        rank_divisor: b, > 0
        start: share of training before the prior starts, in [0, 1]; 0.5 in the paper
        memory: number of remembered keys of each view; 65536 on ImageNet
        momentum: decay of the momentum copy, in [0, 1]; 0.999 on ImageNet
    """

    views: Annotated[int, Interval(ge=2, le=8)] = 3
    temperature: Annotated[float, Gt(0)] = 0.2
    rank_divisor: Annotated[float, Gt(0)] = 15.0
    start: Share = 0.5
    memory: Annotated[int, Ge(1)] = 1024
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        dim, _ = setting.require("lorac")
        return _WithMemory(self, dim, setting.generator())


class _WithMemory(nn.Module):
    """The loss and its memory (2, K, D): keys of the first and of the second view, newest first."""

    memory: Tensor

    def __init__(self, settings: LORAC, dim: int, generator: torch.Generator):
        super().__init__()
        self.settings = settings
        self.requirements = Requirements(
            needs=("projections", "momentum_projections", "progress"),
            views=("full",) * settings.views,
            momentum=(settings.momentum, settings.momentum),
            exempt={
                "view_swap": "a key meets the memory of the other view",
                "rotation": "the memory starts as random directions",
            },
        )
        self.register_buffer("memory", unit(torch.randn(2, settings.memory, dim, generator=generator)))

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        projections: Views,
        momentum_projections: Views,
        progress: float,
    ) -> Tensor:
        queries = torch.stack([unit(view) for view in projections])  # (V, N, D)
        keys = torch.stack([unit(view) for view in momentum_projections[:2]]).detach()  # (2, N, D)
        s = self.settings
        prior = nuclear_norm(torch.cat([queries, keys])) / s.rank_divisor if progress >= s.start else 0.0
        losses = []
        for which, key in enumerate(keys):
            query = torch.cat([queries[:which], queries[which + 1 :]])  # (V-1, N, D)
            positive = (query * key).sum(dim=2) / self.settings.temperature - prior  # (V-1, N)
            negative = query @ self.memory[1 - which].to(query.dtype).T / self.settings.temperature  # (V-1, N, K)
            logits = torch.cat([positive[:, :, None], negative], dim=2)
            losses.append((logits.logsumexp(dim=2) - positive).mean())
        if self.training and torch.is_grad_enabled():
            self.memory = torch.cat([keys.to(self.memory.dtype), self.memory], dim=1)[:, : self.settings.memory]
        return (losses[0] + losses[1]) / 2


def nuclear_norm(stack: Tensor) -> Tensor:
    """(N,) sum of the singular values of each image's (V, D) rows in a (V, N, D) stack, by the V x V Gram matrix."""
    rows = stack.transpose(0, 1)
    with torch.autocast(rows.device.type, enabled=False):
        squared = torch.linalg.eigvalsh(rows @ rows.mT).clamp(min=0)  # (N, V)
    return (squared + EPS).sqrt().sum(dim=1)
