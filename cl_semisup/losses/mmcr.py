from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from cl_semisup.contrast import nothing, unit


@dataclass(frozen=True)
class MMCR:
    """MMCR: maximum manifold capacity, large for the centroids and small for the views of one image.

        L = -|C|_* + l/N sum_i |Z_i|_*,   c_i = (u_i + v_i) / 2

    with the nuclear norm (sum of singular values), C (N, D) the rows c_i, and Z_i (D, 2) the views u_i, v_i.

    Group: further
    Source: arXiv 2303.03307; ThomasYerxa/mmcr mmcr/cifar_stl/loss_mmcr.py
    Difference: two views (up to 40 there)
    Degenerate: one image and equal rows are finite. Labels are ignored.

    Args:
        lmda: l, weight of the nuclear norm of each image's views, >= 0
        normalize: scale the rows to length 1 first; without it the loss has no lower bound
    """

    lmda: Annotated[float, Ge(0)] = 0.0
    normalize: bool = True

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        wide = torch.promote_types(z1.dtype, torch.float32)
        u, v = (unit(z1), unit(z2)) if self.normalize else (z1.to(wide), z2.to(wide))
        centroids = (u + v) / 2  # (N, D)
        # svdvals raises on values that are not finite, but a diverged network must give a loss that is not finite.
        finite = torch.where(centroids.isfinite(), centroids, 0)
        loss = -torch.linalg.svdvals(finite).sum() + nothing(u, v)
        return loss + self.lmda * _nuclear_of_pairs(u, v).mean() if self.lmda else loss


def _nuclear_of_pairs(u: Tensor, v: Tensor) -> Tensor:
    """(N,) nuclear norm of each D x 2 matrix [u_i v_i], in closed form: s1 + s2 = sqrt(s1^2 + s2^2 + 2 s1 s2).

    Taken of [u+v, u-v] / sqrt(2), which has the same singular values and loses no digits when the views agree.
    """
    plus, minus = (u + v) / 2**0.5, (u - v) / 2**0.5
    a, b, c = plus.square().sum(dim=1), (plus * minus).sum(dim=1), minus.square().sum(dim=1)
    return _root(a + c + 2 * _root(a * c - b.square()))


def _root(x: Tensor) -> Tensor:
    """Square root whose gradient is 0, not infinite, where x is 0."""
    return torch.where(x > 0, x, 1).sqrt().where(x > 0, 0)
