from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from cl_semisup.losses import Requirements

EPS = 1e-5  # added to the variance, so that a constant dimension becomes 0


@dataclass(frozen=True)
class Decorr:
    """Feature decorrelation, the generic form: views alike, dimensions standardised and uncorrelated.

        L = 1/(N D) sum_i |x1_i - x2_i|^2 + w * 1/2 sum_v 1/D sum_{d != e} Corr_v[d,e]^2

    x_v: projections of view v, standardised over the batch in every dimension; Corr_v = x_v^T x_v / N.
    Standardised rows cannot shrink, so the first term alone does not collapse to a point; the second prevents redundant
    dimensions. Barlow Twins differs in that it correlates dimensions across the views.

    Group: reproductions
    Source: after arXiv 2105.00470, which studies decorrelation in self-supervision; a generic form, not its layer
    Difference: a penalty, where the paper whitens the batch (decorrelated batch norm) and has no second term
    Degenerate: one image has no variance and gives 0. Labels are ignored.

    Args:
        weight: w, >= 0
    """

    weight: Annotated[float, Ge(0)] = 0.1

    requirements: ClassVar[Requirements] = Requirements(exempt={"rotation": "correlation is of single dimensions"})

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        x1, x2 = _standardised(z1), _standardised(z2)  # (N, D)
        redundancy = (_redundancy(x1) + _redundancy(x2)) / 2
        return (x1 - x2).square().mean() + self.weight * redundancy


def _standardised(z: Tensor) -> Tensor:
    z = z.float() if z.dtype.itemsize < 4 else z
    centred = z - z.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + EPS).sqrt()


def _redundancy(x: Tensor) -> Tensor:
    """Squared correlations between different dimensions, summed over one and averaged over the other."""
    correlation = x.T @ x / len(x)  # (D, D)
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / x.shape[1]
