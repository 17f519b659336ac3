from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from cl_semisup.contrast import logsumexp, mean
from cl_semisup.losses import Setting
from cl_semisup.losses._class_weights import ClassWeights


@dataclass(frozen=True)
class NTCE:
    """NTCE: each labelled image's class weight must find the image among all rows of the batch.

        L = mean over labelled rows i of  -log [ exp(w_{y_i}.u_i / t) / sum_j exp(w_{y_i}.u_j / t) ]

    over the rows u of both views of the labelled images; w are unit weights, one a class, trained with the network.
    Cross-entropy compares a row with the weights of C classes; here a weight is compared with every row, classmates
    included. Batches are drawn from the labelled images only.

    Group: further
    Source: arXiv 2605.20302; pakoromilas/nc_by_design@4ee84352 losses.py (NTCE)
    Difference: on the projections of two views, all rows together, where the code has one view
    Degenerate: without a labelled image it is 0 with a graph; if all rows are equal it is ln(2L) for L labelled images.

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.1

    def build(self, setting: Setting) -> nn.Module:
        return _NTCE(setting, self.temperature)


class _NTCE(ClassWeights):
    def __init__(self, setting: Setting, temperature: float):
        super().__init__(setting, "ntce")
        self.temperature = temperature

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u, y, w = self.rows(z1, z2, labels)
        logits, known, own = w @ u.T / self.temperature, y >= 0, y.clamp(min=0)  # (C, 2N), (2N,), (2N,)
        total = logsumexp(logits, known.expand_as(logits))[own]
        return mean(total - logits[own, torch.arange(len(y), device=y.device)], known, z1, z2)
