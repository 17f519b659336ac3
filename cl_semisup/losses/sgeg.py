from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from cl_semisup.contrast import nothing
from cl_semisup.losses import Requirements

MIN_VARIANCE = 1e-8  # added to the variance, so that a constant dimension becomes 0


@dataclass(frozen=True)
class SGEG:
    """Gaussian embedding without negatives (SSGE): aligned views whose distribution is close to a standard normal one.

        L = -1/N sum_i x_i.y_i + w/2 sum over x, y of [ -2 sum_k sqrt(l_k + eps) ]

    x, y: z1 and z2, every dimension standardised over the batch; l_k: the eigenvalues of that view's covariance.
    As its trace is D, the bracket is the squared 2-Wasserstein distance to N(0, I) less the constant 2D.

    Group: further
    Source: arXiv 2411.01157; Cloudy1225/SSGE main.py
    Difference: images in place of a graph; a constant dimension becomes 0 instead of NaN
    Degenerate: one image has no covariance: 0 with a graph. With N <= D at least D - N + 1 eigenvalues stay 0. Labels
    are ignored.

    Args:
        weight: w, >= 0; 0.05 to 1 on graphs
        eps: added to the eigenvalues before their square root, > 0
    """

    weight: Annotated[float, Ge(0)] = 1.0
    eps: Annotated[float, Gt(0)] = 1e-4

    requirements: ClassVar[Requirements] = Requirements(exempt={"rotation": "single dimensions are standardised"})

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if len(z1) < 2:
            return nothing(z1, z2)
        x, y = _standard(z1), _standard(z2)  # (N, D)
        invariance = -(x * y).sum() / len(x)
        return invariance + self.weight / 2 * (self._normality(x) + self._normality(y))

    def _normality(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            covariance = x.T @ x / (len(x) - 1)  # (D, D)
            eigenvalues = torch.linalg.eigvalsh(covariance)
        eigenvalues = eigenvalues + eigenvalues.detach().neg().clamp(min=0)  # rounded below 0: to 0, with gradient
        return -2 * (eigenvalues + self.eps).sqrt().sum()


def _standard(z: Tensor) -> Tensor:
    if z.dtype.itemsize < 4:
        z = z.float()
    return (z - z.mean(dim=0)) / (z.var(dim=0) + MIN_VARIANCE).sqrt()
