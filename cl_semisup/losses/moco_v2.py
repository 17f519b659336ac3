from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views


@dataclass(frozen=True)
class MoCoV2:
    """MoCo v2: identify the momentum encoder's projection of the other view among a queue of earlier ones.

        L = mean_i [ log( exp(q_i.k_i / t) + sum_{m in queue} exp(q_i.m / t) ) - q_i.k_i / t ]

    q: unit rows of view 1, by the network; k: unit rows of view 2, by the momentum encoder, without a gradient. After
    the loss the keys k replace the oldest of the queue, which starts as random directions.

    Group: core
    Source: arXiv 1911.05722 and 2003.04297; facebookresearch/moco moco/builder.py
    Difference: the momentum goes to 1 along a cosine (constant there); no shuffling of batch norm, which needs several
    devices; the queue need not be a multiple of the batch
    Degenerate: one image has the queue's negatives. Labels are ignored.

    Args:
        temperature: t, > 0; 0.2 in the paper, 0.1 on CIFAR-10
        queue: number of keys kept, >= 1; 65536 in the paper, 4096 on CIFAR-10; more than there are images makes an
            image's own older keys its negatives
        symmetric: mean of both directions, each with the same queue, which then takes the keys of both views
        momentum: decay of the momentum encoder at the first step, cosine to 1
    """

    temperature: Annotated[float, Gt(0)] = 0.2
    queue: Annotated[int, Ge(1)] = 4096
    symmetric: bool = False
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        return _MoCoV2(setting.width("moco_v2"), self, setting.generator())


class _MoCoV2(nn.Module):
    """`queue` (Q, D) are unit rows, `oldest` the row that the next key replaces."""

    queue: Tensor
    oldest: Tensor

    def __init__(self, dim: int, settings: MoCoV2, generator: torch.Generator):
        super().__init__()
        self.temperature, self.symmetric = settings.temperature, settings.symmetric
        exempt = {"rotation": "the queue holds directions of its own"}
        if not settings.symmetric:
            exempt["view_swap"] = "queries are of the first view, keys of the second"
        self.requirements = Requirements(
            needs=("momentum_projections",), momentum=(settings.momentum, 1.0), exempt=exempt
        )
        self.register_buffer("queue", unit(torch.randn(settings.queue, dim, generator=generator)))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, momentum_projections: Views | None = None
    ) -> Tensor:
        key1, key2 = (unit(key) for key in momentum_projections or (z1.detach(), z2.detach()))
        loss = self._contrast(unit(z1), key2)
        if self.symmetric:
            loss = (loss + self._contrast(unit(z2), key1)) / 2
        if self.training and torch.is_grad_enabled():
            self._remember(torch.cat([key1, key2]) if self.symmetric else key2)
        return loss

    def _contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Cross-entropy of each query's own key against the queue."""
        own = (queries * keys).sum(dim=1, keepdim=True)  # (N, 1)
        logits = torch.cat([own, queries @ self.queue.to(queries.dtype).T], dim=1) / self.temperature  # (N, 1 + Q)
        return (torch.logsumexp(logits, dim=1) - logits[:, 0]).mean()

    @torch.no_grad()
    def _remember(self, keys: Tensor) -> None:
        """Replace the queue by a new tensor: the backward pass still needs the old one."""
        size = len(self.queue)
        keys = keys[-size:]
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % size
        self.queue = self.queue.index_copy(0, rows, keys.to(self.queue.dtype))
        self.oldest = (self.oldest + len(keys)) % size
