from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import EPS, nothing


@dataclass(frozen=True)
class Spectral:
    """Spectral contrastive loss: matrix factorisation of the augmentation graph.

        L = 1/m [ -2 mean_i x_i.y_i + 1/(N (N - 1)) sum_{i != j} (x_i.y_j)^2 ]

    x, y: the projections, rows longer than sqrt(m) scaled to that length. Negatives are across the views only.

    Group: further
    Source: arXiv 2106.04156; jhaochenz96/spectral_contrastive_learning models/spectral.py
    Difference: None
    Degenerate: one image has no negatives: 0 with a graph. Labels are ignored.

    Args:
        max_squared_norm: m, > 0; 1 on CIFAR, 10 on ImageNet
    """

    max_squared_norm: Annotated[float, Gt(0)] = 1.0

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        count = len(z1)
        if count < 2:
            return nothing(z1, z2)
        x, y = self._cut(z1), self._cut(z2)  # (N, D)
        similarity = x @ y.T  # (N, N)
        attraction = similarity.diagonal()
        repulsion = (similarity.square().sum() - attraction.square().sum()) / (count * (count - 1))
        return (repulsion - 2 * attraction.mean()) / self.max_squared_norm

    def _cut(self, z: Tensor) -> Tensor:
        if z.dtype.itemsize < 4:
            z = z.float()
        norm = z.norm(dim=1, keepdim=True).clamp(min=EPS)
        return z * (self.max_squared_norm**0.5 / norm).clamp(max=1)
