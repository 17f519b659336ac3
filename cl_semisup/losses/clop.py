from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import mean, nothing, unit
from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, Setting, asks
from cl_semisup.plugins import Choice


FIXED = "the prototypes are fixed directions"


@dataclass(frozen=True)
class CLOP:
    """CLOP: any contrastive loss, plus a pull of the labelled images towards fixed orthonormal class prototypes.

        L = L_base(z1, z2, labels) + w * mean over labelled i of 1/2 [ d(u_i, A_{y_i}) + d(v_i, A_{y_i}) ]

    d(x, a) = 1 - x.a (cosine), |x - a|_2 (euclidean) or |x - a|_1 (manhattan), on unit rows u, v. Unlabelled images
    feel the base loss alone. The prototypes A (C, D) are drawn once and never trained:
    orthonormal: a random basis of a random C-dimensional subspace; simplex_etf: C unit vectors with pairwise cosine
    -1/(C-1); random_unit: independent uniform directions.

    Source: arXiv 2403.18699 and 2512.07880; manhbeo/CLOP CLOPLoss.py
    Difference: both terms are means over images (the paper sums the base loss over anchors and averages the other, its
    code averages both); prototypes by QR, equal in law to the SVD there; simplex_etf is the true simplex of C points
    (the code's `etf` is nearly orthonormal whatever C)
    Degenerate: without a labelled image the prototype term is 0 with a graph. C > D has no orthonormal prototypes and
    is refused.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none for the prototype term alone
        weight: w, >= 0
        distance: d
        prototypes: how the prototypes are drawn
    """

    base: Annotated[Any, Choice("losses", optional=True)] = "nt_xent"
    weight: Annotated[float, Ge(0)] = 1.0
    distance: Literal["cosine", "euclidean", "manhattan"] = "cosine"
    prototypes: Literal["orthonormal", "simplex_etf", "random_unit"] = "orthonormal"

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("clop")
        generator = torch.Generator().manual_seed(setting.seed)
        draw = {"orthonormal": _orthonormal, "simplex_etf": _simplex, "random_unit": _random_unit}[self.prototypes]
        base = None if self.base == "none" else setting.loss(self.base)
        return _WithPrototypes(base, draw(classes, dim, generator), self.weight, self.distance)


class _WithPrototypes(nn.Module):
    """The base loss and the prototype term; `prototypes` is the (C, D) buffer."""

    prototypes: Tensor

    def __init__(self, base: Loss | None, prototypes: Tensor, weight: float, distance: str):
        super().__init__()
        self.base, self.weight, self.distance = base, weight, distance
        self.asks = replace(asks(base), labels=True, exempt={**asks(base).exempt, "rotation": FIXED})
        self.register_buffer("prototypes", prototypes)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base = nothing(z1, z2) if self.base is None else self.base(z1, z2, labels, **needed)
        if labels is None:
            return base
        u, v = unit(z1), unit(z2)
        target = self.prototypes.to(u.dtype)[labels.clamp(min=0)]  # (N, D); rows of unlabelled images do not count
        pull = (self._away(u, target) + self._away(v, target)) / 2
        return base + self.weight * mean(pull, labels >= 0, z1, z2)

    def _away(self, rows: Tensor, target: Tensor) -> Tensor:
        if self.distance == "cosine":
            return 1 - (rows * target).sum(dim=1)
        return torch.linalg.vector_norm(rows - target, ord=2 if self.distance == "euclidean" else 1, dim=1)


def _orthonormal(classes: int, dim: int, generator: torch.Generator) -> Tensor:
    if classes > dim:
        rule = "orthonormal prototypes need at least as many dimensions as classes"
        remedy = f"Set projector dim >= {classes}, or prototypes: simplex_etf (dim >= {classes - 1}) or random_unit"
        raise InputError(f"clop: {rule}. Got classes={classes}, dim={dim}. {remedy}.")
    return _basis(classes, dim, generator)


def _simplex(classes: int, dim: int, generator: torch.Generator) -> Tensor:
    if classes > dim + 1:
        rule = "a simplex of C points needs at least C - 1 dimensions"
        remedy = f"Set projector dim >= {classes - 1}, or prototypes: random_unit"
        raise InputError(f"clop: {rule}. Got classes={classes}, dim={dim}. {remedy}.")
    if classes == 1:
        return _random_unit(classes, dim, generator)
    # The centred unit vectors of C dimensions span C - 1: write them in a basis of that span, then turn it into D.
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    spanned = torch.linalg.eigh(centred).eigenvectors[:, 1:]  # (C, C-1); eigenvalue 0 comes first
    corners = spanned / spanned.norm(dim=1, keepdim=True)
    return (corners @ _basis(classes - 1, dim, generator).double()).float()


def _random_unit(classes: int, dim: int, generator: torch.Generator) -> Tensor:
    return unit(torch.randn(classes, dim, generator=generator))


def _basis(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """(count, D) orthonormal rows, uniform among such frames: QR of a Gaussian matrix with the signs of R's diagonal."""
    gaussian = torch.randn(dim, count, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).T.float().contiguous()
