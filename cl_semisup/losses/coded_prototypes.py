from dataclasses import dataclass, replace
from itertools import accumulate, combinations
from math import comb, log2, prod
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import mean, unit
from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, Setting
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class CodedPrototypes:
    """Fixed class prototypes made of a Reed-Muller code: spread out for more classes than dimensions too.

        L = L_base + w mean over labelled i of 1/2 [ l(z1_i, y_i) + l(z2_i, y_i) ]
        cross_entropy: l(z, y) = -log softmax_y(A z)          cosine: l(z, y) = 1 - u.A_y,   u the unit row of z

    A (C, D): row c is codeword c of RM(m, r) with its bits 0 and 1 written as -1 and 1, divided by sqrt(2^m), where
    2^m <= D is as large as it can be; r is the smallest order with at least C codewords. Codeword c is the sum, modulo
    2, of the generators that are 1 in the binary digits of c, lowest digit first: the constant 1, the m coordinates,
    then their products. Up to 2^(m+1) classes (r <= 1) two prototypes are orthogonal or opposite, and no C > D + 1
    points keep further apart if D = 2^m; of order r no cosine exceeds 1 - 2^(1-r), which is 1/2 for r = 2.

    Group: further
    Source: arXiv 2407.07664; martinlindstrom/coding_theoretic_hpl@85a3b515 models.py (ReedMullerCode, PrototypicalLoss)
    Difference: `cross_entropy` is theirs, on one view there; `cosine` is CLOP's term with these prototypes, and neither
    paper has it, nor a base loss. There D is a power of 2; here dimensions beyond 2^m are zero in every prototype.
    Their BCH codes and optimised prototypes are left out
    Degenerate: without a labelled image the base loss is left, or 0 with a graph. C > 2^(2^m) is refused.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none
        weight: w, >= 0
        pull: l
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "none"
    weight: Annotated[float, Ge(0)] = 1.0
    pull: Literal["cross_entropy", "cosine"] = "cross_entropy"

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("coded_prototypes")
        return _Coded(self, setting.loss(self.base), reed_muller(classes, dim))


def reed_muller(classes: int, dim: int) -> Tensor:
    """(C, D) unit rows; InputError if there are more classes than binary vectors."""
    order = dim.bit_length() - 1
    length = 2**order
    if log2(classes) > length:
        rule = f"a width of {dim} has {2**length} codewords, one a class"
        raise InputError(f"coded_prototypes: {rule}. Got classes={classes}. Set projector dim: 128.")
    sizes = accumulate(comb(order, i) for i in range(order + 1))
    degree = next(r for r, size in enumerate(sizes) if size >= log2(classes))
    positions = torch.arange(length)
    coordinates = [positions // 2**i % 2 for i in reversed(range(order))]
    generators = [
        prod(chosen, start=torch.ones_like(positions))
        for size in range(degree + 1)
        for chosen in combinations(coordinates, size)
    ]
    digits = torch.arange(classes)[:, None] // 2 ** torch.arange(len(generators)).clamp(max=62) % 2  # (C, generators)
    code = (2 * (digits @ torch.stack(generators) % 2) - 1) / length**0.5
    return F.pad(code, (0, dim - length))


class _Coded(Wrapper):
    """The base loss and the pull towards `prototypes`, a (C, D) buffer."""

    prototypes: Tensor

    def __init__(self, settings: CodedPrototypes, base: Loss, prototypes: Tensor):
        super().__init__(base)
        self.settings = settings
        exempt = {**self.requirements.exempt, "rotation": "the prototypes are directions of their own"}
        self.requirements = replace(self.requirements, labels=True, exempt=exempt)
        self.register_buffer("prototypes", prototypes)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base = self.base_loss(z1, z2, labels, needed)
        if labels is None:
            return base
        target = labels.clamp(min=0)
        pull = (self._pull(z1, target) + self._pull(z2, target)) / 2
        return base + self.settings.weight * mean(pull, labels >= 0, z1, z2)

    def _pull(self, z: Tensor, target: Tensor) -> Tensor:
        if self.settings.pull == "cosine":
            rows = unit(z)
            return 1 - (rows * self.prototypes.to(rows.dtype)[target]).sum(dim=1)
        scores = wide(z) @ self.prototypes.to(wide(z).dtype).T  # (N, C)
        return F.cross_entropy(scores, target, reduction="none")
