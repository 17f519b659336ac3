from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from cl_semisup.contrast import both, identities, others, same
from cl_semisup.losses import Asks


@dataclass(frozen=True)
class SimORatio:
    """SimO as ratios of sums, reconstructed from the paper's description (not its code): distance against alignment.

        L = sum_same d / (eps + sum_same o)  +  w * sum_different o / (eps + sum_different d)
        d_ab = |Z_a - Z_b|^2,   o_ab = (Z_a.Z_b)^2

    over the pairs a < b of the unit rows Z of both views, of one class or of different ones. The two ratios and their
    sums over pairs are the paper's; where its factor of the second term stands is not certain. The form simo, of the
    authors' later code, is the better documented one. It is a supervised loss: batches are drawn from the labelled
    images only, unless unlabelled ones take part.

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
    def asks(self) -> Asks:
        return Asks(labels=True, trains_on="labelled" if self.unlabelled == "out" else "all")

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        z = both(z1, z2)  # (2N, D)
        with torch.autocast(z.device.type, enabled=False):  # the gradient, up to 1/eps, overflows half precision
            cosine = z @ z.T  # (2N, 2N)
        aligned, apart = cosine.square(), (2 - 2 * cosine).clamp(min=0)
        ids = identities(labels, len(z1), z.device)
        known, pairs = same(ids.repeat(2)), others(len(z), z.device)
        if self.unlabelled == "out":
            labelled = (ids >= 0).repeat(2)
            pairs = pairs & labelled[:, None] & labelled
        alike, different = known & pairs, ~known & pairs
        # Every pair is there twice, hence the halves.
        pull = (apart * alike).sum() / 2 / (self.eps + (aligned * alike).sum() / 2)
        push = (aligned * different).sum() / 2 / (self.eps + (apart * different).sum() / 2)
        return pull + self.weight * push
