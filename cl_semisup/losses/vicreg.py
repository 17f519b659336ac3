from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt
from torch import Tensor

from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class VICReg:
    """VICReg: invariance of the views, variance of every dimension, no covariance between dimensions.

        L = a |z1 - z2|^2 / (N D) + b/2 sum_v 1/D sum_d relu(1 - sqrt(Var_d + eps)) + c sum_v 1/D sum_{d != e} Cov_de^2

    on raw projections (not normalised), with unbiased variance and covariance.

    Group: core
    Source: arXiv 2105.04906; facebookresearch/vicreg main_vicreg.py
    Difference: covariance divides by this batch's N - 1 (there: by the global batch's). The variance term is
    halved, as there; solo-learn does not halve it, so its 25 is 50 here
    Degenerate: one image has no variance; only the invariance term is left. Labels are ignored.

    Args:
        invariance: a, >= 0
        variance: b, >= 0
        covariance: c, >= 0
        eps: added to the variance before its square root, > 0
    """

    invariance: Annotated[float, Ge(0)] = 25.0
    variance: Annotated[float, Ge(0)] = 25.0
    covariance: Annotated[float, Ge(0)] = 1.0
    eps: Annotated[float, Gt(0)] = 1e-4

    requirements: ClassVar[Requirements] = Requirements(
        exempt={"rotation": "variance and covariance are of single dimensions"}
    )

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if z1.dtype.itemsize < 4:
            z1, z2 = z1.float(), z2.float()
        invariance = self.invariance * (z1 - z2).square().mean()
        if len(z1) < 2:
            return invariance
        return invariance + self._regularisation(z1) + self._regularisation(z2)

    def _regularisation(self, z: Tensor) -> Tensor:
        """Variance and covariance terms of one view."""
        count, dim = z.shape
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (count - 1)  # (D, D)
        variances = covariance.diagonal()
        hinge = (1 - (variances + self.eps).sqrt()).relu().mean()
        off_diagonal = (covariance.square().sum() - variances.square().sum()) / dim
        return self.variance / 2 * hinge + self.covariance * off_diagonal
