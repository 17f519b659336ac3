from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from cl_semisup.losses import Requirements
from cl_semisup.losses._class_pairs import class_pairs


@dataclass(frozen=True)
class SimORatio:
    """SimO as ratios of sums, reconstructed from the paper's description (not its code): distance against alignment.

        L = sum_same d / (eps + sum_same o)  +  w * sum_different o / (eps + sum_different d)
        d_ab = |Z_a - Z_b|^2,   o_ab = (Z_a.Z_b)^2

    over the pairs a < b of the unit rows Z of both views, of one class or of different ones. The two ratios and their
    sums over pairs are the paper's; the place of its factor in the second term is not certain. `simo`, from the
    authors' later code, is documented better. It is a supervised loss: batches are drawn from the labelled images only,
    unless unlabelled ones take part.

    Group: reproductions
    Source: arXiv 2410.05233; no public code of this form
    Difference: rows are normalised (the ratios are not scale-free); one call over the whole batch, where the paper
    makes three: within a class, across class means, and over mixed negatives
    Degenerate: one image, or one class, leaves the first ratio; without a labelled image it is 0 with a graph. Rows
    that all coincide cost up to 1/eps a pair: finite.

    Args:
        weight: w of the second ratio, >= 0 (the paper's olean)
        eps: added to the denominators, > 0
        unlabelled: out, or own: an unlabelled image is a class of its own, driven orthogonal to all others
    """

    weight: Annotated[float, Ge(0)] = 1.0
    eps: Annotated[float, Gt(0)] = 1e-3
    unlabelled: Literal["out", "own"] = "out"

    @property
    def requirements(self) -> Requirements:
        return Requirements(labels=True, trains_on="labelled" if self.unlabelled == "out" else "all")

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        cosine, apart, same, pairs, _ = class_pairs(z1, z2, labels, self.unlabelled)
        aligned, alike, different = cosine.square(), same & pairs, ~same & pairs
        # Halves, because the matrices hold every pair twice.
        pull = (apart * alike).sum() / 2 / (self.eps + (aligned * alike).sum() / 2)
        push = (aligned * different).sum() / 2 / (self.eps + (apart * different).sum() / 2)
        return pull + self.weight * push
