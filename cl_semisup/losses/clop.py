from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import mean, unit
from cl_semisup.contrast.prototypes import orthonormal, random_unit, regular_simplex
from cl_semisup.losses import Loss, Setting
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField

DIRECTIONS = "the prototypes are directions of their own"


@dataclass(frozen=True)
class CLOP:
    """CLOP: any contrastive loss, plus a pull of the labelled images towards fixed orthonormal class prototypes.

        L = L_base(z1, z2, labels) + w * mean over labelled i of 1/2 [ d(u_i, A_{y_i}) + d(v_i, A_{y_i}) ]

    d(x, a) = 1 - x.a (cosine), |x - a|_2 (euclidean) or |x - a|_1 (manhattan), on unit rows u, v. Unlabelled images
    have the base loss alone. The prototypes A (C, D) are drawn once and stay fixed, except `learned` ones. orthonormal:
    a random basis of a random C-dimensional subspace; simplex_etf: C unit vectors with pairwise cosine -1/(C-1);
    random_unit: independent uniform directions; learned: start as random_unit, are trained with the network, and are
    scaled to length 1 where they are used.

    Group: core
    Source: arXiv 2403.18699 and 2512.07880; manhbeo/CLOP CLOPLoss.py
    Difference: both terms are means over images (the paper sums the base loss over anchors and averages the other, its
    code averages both); prototypes by QR, equal in law to the SVD there; simplex_etf is the true simplex of C points
    (the code's `etf` is nearly orthonormal whatever C); random_unit and learned are controls that show what fixed,
    orthonormal prototypes add
    Degenerate: without a labelled image the prototype term is 0 with a graph. C > D has no orthonormal prototypes and
    is refused.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none for the prototype term alone
        weight: w, >= 0
        distance: d
        prototypes: how the prototypes are drawn
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"
    weight: Annotated[float, Ge(0)] = 1.0
    distance: Literal["cosine", "euclidean", "manhattan"] = "cosine"
    prototypes: Literal["orthonormal", "simplex_etf", "random_unit", "learned"] = "orthonormal"

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("clop")
        return _WithPrototypes(self, setting.loss(self.base), self._draw(classes, dim, setting.generator()))

    def _draw(self, classes: int, dim: int, generator: torch.Generator) -> Tensor:
        if self.prototypes == "orthonormal":
            return orthonormal(classes, dim, generator, "clop")
        if self.prototypes == "simplex_etf":
            return regular_simplex(classes, dim, generator, "clop", instead="prototypes: random_unit")
        return random_unit(classes, dim, generator)


class _WithPrototypes(Wrapper):
    """The base loss and the prototype term; `prototypes` is the (C, D) buffer, or parameter if learned."""

    prototypes: Tensor

    def __init__(self, settings: CLOP, base: Loss, prototypes: Tensor):
        super().__init__(base)
        self.weight, self.distance = settings.weight, settings.distance
        self.learned = settings.prototypes == "learned"
        self.requirements = replace(
            self.requirements, labels=True, exempt={**self.requirements.exempt, "rotation": DIRECTIONS}
        )
        if self.learned:
            self.prototypes = nn.Parameter(prototypes)
        else:
            self.register_buffer("prototypes", prototypes)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base = self.base_loss(z1, z2, labels, needed)
        if labels is None:
            return base
        u, v = unit(z1), unit(z2)
        prototypes = unit(self.prototypes) if self.learned else self.prototypes  # (C, D)
        target = prototypes.to(u.dtype)[labels.clamp(min=0)]  # (N, D); rows of unlabelled images do not count
        pull = (self._distance(u, target) + self._distance(v, target)) / 2
        return base + self.weight * mean(pull, labels >= 0, z1, z2)

    def _distance(self, rows: Tensor, target: Tensor) -> Tensor:
        if self.distance == "cosine":
            return 1 - (rows * target).sum(dim=1)
        return torch.linalg.vector_norm(rows - target, ord=2 if self.distance == "euclidean" else 1, dim=1)
