from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from cl_semisup.contrast import nothing, unit
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class WMSE:
    """W-MSE: the views are compared after whitening, so they cannot collapse.

        w_i = R^-1 (z_i - m),   R R^T = (1 - e) Cov + e I   (Cholesky; m and the unbiased Cov of the group)
        L = mean_i [ 2 - 2 cos(w1_i, w2_i) ]

    Each view and each group of images is whitened separately. Groups are neighbours in the batch, which is shuffled.

    Group: further
    Source: arXiv 2007.06346; htdt/self-supervised methods/w_mse.py, whitening.py
    Difference: one grouping a step (w_iter = 1), and a batch that is no multiple of the group is split nearly evenly;
    e is not 0 by default; the whitening is done in float64
    Degenerate: one image gives 0. A group of no more than D images has a singular covariance: finite thanks to e, but
    without meaning; use a projector of at most half as many dimensions as images. Labels are ignored.

    Args:
        group: images whitened together; 0 means the whole batch; about 2 D in the paper
        eps: e, share of the identity in the covariance, in (0, 1]
    """

    group: Annotated[int, Ge(0)] = 128
    eps: Annotated[float, Interval(gt=0, le=1)] = 1e-3

    requirements: ClassVar[Requirements] = Requirements(
        exempt={"rotation": "the Cholesky factor depends on the order of the axes"}
    )

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if len(z1) < 2:
            return nothing(z1, z2)
        groups = max(1, len(z1) // self.group) if self.group else 1
        w1, w2 = (torch.cat([self._white(part) for part in _exact(z).tensor_split(groups)]) for z in (z1, z2))
        loss = 2 - 2 * (unit(w1) * unit(w2)).sum(dim=1).mean()
        return loss.to(z1.device, torch.promote_types(z1.dtype, torch.float32))

    def _white(self, z: Tensor) -> Tensor:
        """(n, D) rows with mean 0 and, where the group spans all dimensions, covariance I."""
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / max(1, len(z) - 1)  # (D, D)
        shrunk = (1 - self.eps) * covariance + self.eps * torch.eye(len(covariance), dtype=z.dtype, device=z.device)
        factor, failed = torch.linalg.cholesky_ex(shrunk)  # unlike cholesky, does not wait for the device
        factor = factor.masked_fill(failed > 0, torch.nan)
        return torch.linalg.solve_triangular(factor, centred.T, upper=False).T


def _exact(z: Tensor) -> Tensor:
    """In float64; on the CPU for devices without it (MPS)."""
    return z.cpu().double() if z.device.type == "mps" else z.double()
