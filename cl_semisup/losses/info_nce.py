from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import chunked, unit
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class InfoNCE:
    """InfoNCE, one-sided: identify the second view of an image among the second views of the batch.

        L = mean_i [ log sum_j exp(u_i.v_j / t) - u_i.v_i / t ]

    View-1 anchors meet view-2 keys only: N keys an anchor, the positive among them. NT-Xent also compares within a
    view and in both directions, so the two have different values.

    Group: core
    Source: arXiv 1807.03748 with cosine similarity as score
    Difference: keys are the batch's own second views, with a gradient; no memory
    Degenerate: one image is its own only key: 0. Labels are ignored.

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.2

    requirements: ClassVar[Requirements] = Requirements(exempt={"view_swap": "view-1 anchors meet view-2 keys only"})

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u1, u2 = unit(z1), unit(z2)
        if chunked.too_large(len(u1), len(u2)):
            return (chunked.log_sum(u1, u2, self.temperature) - (u1 * u2).sum(dim=1) / self.temperature).mean()
        logits = u1 @ u2.T / self.temperature  # (N, N)
        return (torch.logsumexp(logits, dim=1) - logits.diagonal()).mean()
