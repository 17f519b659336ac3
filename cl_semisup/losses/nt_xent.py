from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import against_others, both


@dataclass(frozen=True)
class NTXent:
    """NT-Xent (SimCLR): identify the other view of an image among all other views in the batch.

        L = mean_a [ log sum_{b != a} exp(s_ab / t) - s_{a,p(a)} / t ]

    over the 2N anchors a, with cosine similarity s and partner p(a), the other view of the same image.

    Group: core
    Source: arXiv 2002.05709; google-research/simclr objective.py
    Difference: None
    Degenerate: one image (N = 1) gives 0, since the partner is the only other view. Labels are ignored.

    Args:
        temperature: t, > 0; 0.5 on CIFAR-10, 0.1 to 0.2 on larger data
    """

    temperature: Annotated[float, Gt(0)] = 0.5

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.per_image(z1, z2, labels).mean()

    def per_image(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N,) mean over each image's two anchors."""
        z = both(z1, z2)  # (2N, D)
        total, partner = against_others(z, self.temperature, torch.arange(len(z), device=z.device))
        return (total - partner).view(2, -1).mean(dim=0)
