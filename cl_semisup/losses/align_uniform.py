import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from cl_semisup.contrast import nothing, others, unit

MIN_SQUARED_DISTANCE = 1e-24  # below it a power of the distance has no gradient; a root's is infinite at 0


@dataclass(frozen=True)
class AlignUniform:
    """Alignment and uniformity: views of an image are close, images of a view are spread over the sphere.

        L = a mean_i |u_i - v_i|^alpha + b/2 sum over u, v of log mean_{i<j} exp(-t |u_i - u_j|^2)

    Group: further
    Source: arXiv 2005.10242; SsnL/align_uniform
    Difference: None
    Degenerate: one image has no pairs; only the alignment is left. Labels are ignored.

    Args:
        align_weight: a, >= 0
        uniform_weight: b, >= 0
        alpha: power of the distance between views, > 0
        t: sharpness of the Gaussian between images, > 0
    """

    align_weight: Annotated[float, Ge(0)] = 1.0
    uniform_weight: Annotated[float, Ge(0)] = 1.0
    alpha: Annotated[float, Gt(0)] = 2.0
    t: Annotated[float, Gt(0)] = 2.0

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u, v = unit(z1), unit(z2)  # (N, D)
        apart = (u - v).square().sum(dim=1)
        loss = self.align_weight * (apart.clamp(min=MIN_SQUARED_DISTANCE) ** (self.alpha / 2)).mean() + nothing(z1, z2)
        if len(u) < 2:
            return loss
        return loss + self.uniform_weight / 2 * (self._uniformity(u) + self._uniformity(v))

    def _uniformity(self, rows: Tensor) -> Tensor:
        count = len(rows)
        logits = -self.t * (2 - 2 * rows @ rows.T)  # (N, N)
        logits = logits.masked_fill(~others(count, rows.device), -torch.inf)
        return logits.flatten().logsumexp(dim=0) - math.log(count * (count - 1))
