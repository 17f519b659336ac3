import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.losses import Requirements
from cl_semisup.losses._class_pairs import class_pairs


@dataclass(frozen=True)
class SimO:
    """SimO in its later form SimO2: pairs of a class close and parallel, pairs of different classes orthogonal.

        L = 1/n [ sum_{a<b, same} 1 / (1 + y_ab)  +  sum_{a<b, different} y_ab ],
        y_ab = sqrt(2) s_ab^2 / (eps + |Z_a - Z_b|^2)

    over the n = 2N unit rows Z of both views, s their cosine. Different classes are driven to s = 0, not to s = -1,
    which needs D >= C. The sums run over pairs and are divided by rows, so the value grows with the batch. It is a
    supervised loss: batches are drawn from the labelled images only, unless unlabelled ones take part.

    Group: further
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
    def requirements(self) -> Requirements:
        return Requirements(labels=True, trains_on="labelled" if self.unlabelled == "out" else "all")

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        cosine, apart, same, pairs, rows = class_pairs(z1, z2, labels, self.unlabelled)
        alignment = math.sqrt(2) * cosine.square() / (self.eps + apart)
        cost = torch.where(same, 1 / (1 + alignment), alignment) * pairs
        return cost.sum() / (2 * rows.sum().clamp(min=1))  # 2: the matrix holds every pair twice
