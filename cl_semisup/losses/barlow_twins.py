from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from cl_semisup.losses import Requirements
from cl_semisup.losses._numbers import wide

EPS = 1e-5  # added to the variance, as batch norm does


@dataclass(frozen=True)
class BarlowTwins:
    """Barlow Twins: the cross-correlation of the two views' dimensions should be the identity.

        C_de = 1/N sum_i x_id y_ie,   x, y: the columns of z1, z2 standardised over the batch
        L = sum_d (1 - C_dd)^2 + r sum_{d != e} C_de^2

    Standardised as batch norm does: the variance divides by N, and 1e-5 is added to it.

    Group: core
    Source: arXiv 2103.03230; facebookresearch/barlowtwins main.py
    Difference: None. solo-learn multiplies the whole loss by `scale_loss`, 0.1 or 0.024: another learning rate
    Degenerate: one image, or equal rows, have no correlation: L = D with no gradient. Labels are ignored.

    Args:
        redundancy: r, weight of the off-diagonal terms, >= 0; 0.0051 in the paper, at D = 8192
    """

    redundancy: Annotated[float, Ge(0)] = 0.0051

    requirements: ClassVar[Requirements] = Requirements(exempt={"rotation": "correlations are of single dimensions"})

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        correlation = (_standard(z1).T @ _standard(z2)).to(torch.promote_types(z1.dtype, torch.float32)) / len(z1)
        diagonal = correlation.diagonal()  # (D,)
        off_diagonal = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + self.redundancy * off_diagonal


def _standard(z: Tensor) -> Tensor:
    """(N, D) columns of mean 0 and variance 1."""
    z = wide(z)
    variance, mean = torch.var_mean(z, dim=0, correction=0)
    return (z - mean) * torch.rsqrt(variance + EPS)
