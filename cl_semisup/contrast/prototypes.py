"""Fixed targets of classes: C random unit vectors in D dimensions.

Orthonormal rows need C <= D, a simplex needs C <= D + 1; independent random directions exist for any C and D.
"""

import torch
from torch import Tensor, nn

from cl_semisup.contrast.pairs import unit
from cl_semisup.errors import InputError


def orthonormal(classes: int, dim: int, generator: torch.Generator, what: str) -> Tensor:
    """(C, D) orthonormal rows, uniform among all such frames. InputError, which names `what`, if C > D."""
    if classes > dim:
        rule = "orthonormal prototypes need at least as many dimensions as classes"
        remedy = f"Set projector dim >= {classes}, or prototypes: simplex_etf (dim >= {classes - 1}) or random_unit"
        raise InputError(f"{what}: {rule}. Got classes={classes}, dim={dim}. {remedy}.")
    return _frame(classes, dim, generator)


def regular_simplex(classes: int, dim: int, generator: torch.Generator, what: str, instead: str = "") -> Tensor:
    """(C, D) corners of a randomly rotated regular simplex about 0: unit rows with pairwise cosine -1 / (C - 1).

    A single class gets a random direction. InputError, which names `what` and the remedy `instead`, if C > D + 1.
    """
    if classes > dim + 1:
        rule = "a simplex of C points needs at least C - 1 dimensions"
        remedy = f"Set projector dim >= {classes - 1}{f', or {instead}' if instead else ''}"
        raise InputError(f"{what}: {rule}. Got classes={classes}, dim={dim}. {remedy}.")
    if classes == 1:
        return random_unit(classes, dim, generator)
    corners = nn.functional.normalize(_basis_of_sum_zero(classes), dim=1)
    return (corners @ _frame(classes - 1, dim, generator).double()).float()


def _basis_of_sum_zero(count: int) -> Tensor:
    """(C, C-1) float64, Helmert's orthonormal basis of the vectors whose sum is 0: (1, ..., 1, -j, 0, ..., 0) scaled.

    Its rows are a regular simplex. Eigenvectors of the centring matrix would span the same, but its eigenvalues are
    equal, so every LAPACK would choose others, and a seed would mean other corners on each machine.
    """
    j = torch.arange(1, count, dtype=torch.float64)
    basis = torch.ones(count, count - 1, dtype=torch.float64).triu() - torch.diag(j, -1)[:, : count - 1]
    return basis / (j * (j + 1)).sqrt()


def random_unit(classes: int, dim: int, generator: torch.Generator) -> Tensor:
    """(C, D) independent directions, uniform on the sphere."""
    return unit(torch.randn(classes, dim, generator=generator))


def _frame(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """(count, D) orthonormal rows, uniform among frames: QR of a Gaussian matrix with the signs of R's diagonal."""
    gaussian = torch.randn(dim, count, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).T.float().contiguous()
