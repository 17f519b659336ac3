import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import both, identities, others, same
from cl_semisup.losses import Asks


@dataclass(frozen=True)
class SimO:
    """SimO in its later form SimO2: pairs of a class close and parallel, pairs of different classes orthogonal.

        L = 1/n [ sum_{a<b, same} 1 / (1 + y_ab)  +  sum_{a<b, different} y_ab ],
        y_ab = sqrt(2) s_ab^2 / (eps + |Z_a - Z_b|^2)

    over the n = 2N unit rows Z of both views, s their cosine. Different classes are driven to s = 0, never to s = -1,
    which needs D >= C. The sums run over pairs and are divided by rows, so the value grows with the batch. It is a
    supervised loss: batches are drawn from the labelled images only, unless unlabelled ones take part.

    Source: mlnomadpy/visx simo2.py (simo_loss_fn), after arXiv 2410.05233
    Difference: there are no unlabelled images there
    Degenerate: one image leaves its own pair of views; without a labelled image it is 0 with a graph. Two coinciding
    rows of different classes cost sqrt(2)/eps: finite, but steep, so a start with nearly equal rows wants a small
    learning rate.

    Args:
        eps: added to the squared distance, > 0
        unlabelled: out, or own: an unlabelled image is a class of its own, driven orthogonal to all others
    """

    eps: Annotated[float, Gt(0)] = 1e-3
    unlabelled: Literal["out", "own"] = "out"

    @property
    def asks(self) -> Asks:
        return Asks(labels=True, trains_on="labelled" if self.unlabelled == "out" else "all")

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        z = both(z1, z2)  # (2N, D)
        with torch.autocast(z.device.type, enabled=False):  # the gradient, up to 1/eps, overflows half precision
            cosine = z @ z.T  # (2N, 2N)
        apart = (2 - 2 * cosine).clamp(min=0)  # squared distance on the sphere; rounding may take it below 0
        alike = math.sqrt(2) * cosine.square() / (self.eps + apart)
        ids = identities(labels, len(z1), z.device)
        known = same(ids.repeat(2))
        pairs = others(len(z), z.device)
        rows: int | Tensor = len(z)
        if self.unlabelled == "out":
            labelled = (ids >= 0).repeat(2)
            pairs, rows = pairs & labelled[:, None] & labelled, labelled.sum().clamp(min=1)
        cost = torch.where(known, 1 / (1 + alike), alike) * pairs
        return cost.sum() / (2 * rows)  # every pair is there twice
