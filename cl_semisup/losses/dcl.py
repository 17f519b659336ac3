from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import against_others, both, nothing


@dataclass(frozen=True)
class DCL:
    """Decoupled contrastive learning: NT-Xent whose positive is not in the denominator.

        L = mean_a [ log sum_{b not in {a, p(a)}} exp(s_ab / t) - s_{a,p(a)} / t ]

    over the 2N anchors a with partner p(a). So a pair that is already close does not weaken its own gradient.

    Group: further
    Source: arXiv 2110.06848; raminnakhli/Decoupled-Contrastive-Learning loss/dcl.py
    Difference: rows are normalised here and not in that code; its mask is a large finite number, this one is exact
    Degenerate: one image has no negatives: 0 with a graph. Unbounded below as t goes to 0. Labels are ignored.

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.1

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if len(z1) < 2:
            return nothing(z1, z2)
        z = both(z1, z2)  # (2N, D)
        images = torch.arange(len(z1), device=z.device).repeat(2)
        total, partner = against_others(z, self.temperature, images)
        return (total - partner).mean()
