from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import nothing, others, squared_distances, unit
from cl_semisup.losses import Loss, Setting
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField

EPS = 1e-8  # keeps the logarithm of a distance of 0 finite


@dataclass(frozen=True)
class KoLeo:
    """KoLeo: any loss, plus an estimate of the batch's negative entropy, which separates nearest neighbours.

        L = L_base(z1, z2, labels) + w sum over views of 1/N sum_i -log( min_{j != i} |x_i - x_j| + 1e-8 )

    with unit rows x of the backbone's features (as in DINOv2) or of the projections, and neighbours within one view.

    Group: wrappers
    Source: arXiv 1806.03198; facebookresearch/dinov2 dinov2/loss/koleo_loss.py
    Difference: the distance without 1e-8 added to every coordinate
    Degenerate: one image has no neighbour: the base alone. Equal rows are not pushed apart (no direction to choose).

    Args:
        base: the loss it is added to: a name, {name: settings}, or none for the term alone
        weight: w, >= 0; 0.1 in DINOv2
        of: what is spread: the backbone's features or the projections
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"
    weight: Annotated[float, Ge(0)] = 0.1
    of: Literal["features", "projections"] = "features"

    def build(self, setting: Setting) -> nn.Module:
        return _WithEntropy(setting.loss(self.base), self.weight, self.of == "features")


class _WithEntropy(Wrapper):
    """The base loss and the entropy term."""

    def __init__(self, base: Loss, weight: float, on_features: bool):
        super().__init__(base, *(["features"] if on_features else []))
        self.weight, self.on_features = weight, on_features

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base = self.base_loss(z1, z2, labels, needed)
        views = needed["features"][:2] if self.on_features and "features" in needed else (z1, z2)
        return base + self.weight * sum((_negative_entropy(view) for view in views), start=nothing(*views))


def _negative_entropy(z: Tensor) -> Tensor:
    """Mean negative log distance of the rows to their nearest neighbours."""
    if len(z) < 2:
        return nothing(z, z)
    rows = unit(z)
    with torch.no_grad():
        apart = squared_distances(rows).masked_fill(~others(len(rows), rows.device), torch.inf)
        nearest = apart.argmin(dim=1)  # (N,)
    distance = torch.linalg.vector_norm(rows - rows[nearest], dim=1)  # its gradient at 0 is 0
    return -(distance + EPS).log().mean()
