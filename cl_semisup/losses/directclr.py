from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from torch import Tensor

from cl_semisup.contrast import nothing, unit
from cl_semisup.losses import Requirements, Views
from cl_semisup.losses._numbers import wide


@dataclass(frozen=True)
class DirectCLR:
    """DirectCLR: InfoNCE on the first dimensions of the backbone's features, without a projector.

        L = 1/2 [ l(a, b) + l(b, a) ],   l(a, b) = mean_i -log [ exp(a_i.b_i / t) / sum_j exp(a_i.b_j / t) ]

    a, b: unit rows of the first `share` of the dimensions of the two views' features. The other dimensions learn
    through the layers below. The projector gets no gradient and stays as it was drawn, so its scores say nothing.

    Group: further
    Source: arXiv 2110.09348, section 6; facebookresearch/directclr directclr/main.py
    Difference: a share of the dimensions, since widths differ; 360 of 2,048 in the paper is the default here
    Degenerate: one image gives 0. Labels are ignored.

    Args:
        temperature: t, > 0
        share: share of the dimensions, at least one
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    share: Annotated[float, Interval(gt=0, le=1)] = 0.18

    requirements: ClassVar[Requirements] = Requirements(
        needs=("features",), exempt={"rotation": "the first dimensions are chosen"}
    )

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, features: Views | None = None) -> Tensor:
        h1, h2 = features or (z1, z2)
        keep = max(1, round(self.share * h1.shape[1]))
        logits = unit(h1[:, :keep]) @ unit(h2[:, :keep]).T / self.temperature  # (N, N)
        target = torch.arange(len(logits), device=logits.device)
        logits = wide(logits)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2 + nothing(z1, z2)
