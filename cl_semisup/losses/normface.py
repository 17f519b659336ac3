from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from cl_semisup.contrast import nothing
from cl_semisup.losses import Setting
from cl_semisup.losses._class_weights import ClassWeights


@dataclass(frozen=True)
class NormFace:
    """NormFace: cross-entropy on the sphere, with unit projections and a unit weight for each class.

        L = mean over labelled rows i of both views of  -log [ exp(w_{y_i}.u_i / t) / sum_c exp(w_c.u_i / t) ]

    The weights w are trained with the network. Batches are drawn from the labelled images only.

    Group: further
    Source: arXiv 1704.06369; in this form arXiv 2605.20302, pakoromilas/nc_by_design@4ee84352 losses.py
    Difference: on the projections of two views, averaged, where the code has one view
    Degenerate: without a labelled image it is 0 with a graph.

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.1

    def build(self, setting: Setting) -> nn.Module:
        return _NormFace(setting, self.temperature)


class _NormFace(ClassWeights):
    def __init__(self, setting: Setting, temperature: float):
        super().__init__(setting, "normface")
        self.temperature = temperature

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u, y, w = self.rows(z1, z2, labels)
        total = F.cross_entropy(u @ w.T / self.temperature, y, ignore_index=-1, reduction="sum")
        return total / (y >= 0).sum().clamp(min=1) + nothing(z1, z2)
