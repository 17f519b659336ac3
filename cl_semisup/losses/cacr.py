from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from cl_semisup.contrast import others, unit
from cl_semisup.losses import Requirements, Views


@dataclass(frozen=True)
class CACR:
    """Contrastive attraction and repulsion: far positives and near negatives have the largest weights.

        L = mean over views x and images i of  a sum_{m != x} p_m c(x_i, m_i)
          - mean over views x < y and images i of  b sum_{j != i} q_j c(x_i, y_j)
        p = softmax_m( s c(x_i, m_i) ),   q = softmax_j( -r c(x_i, y_j) )

    with unit rows and c(x, y) = |x - y|^2. The weights p matter from three views on; with two, p is 1.

    Group: further
    Source: arXiv 2105.03746; JegZheng/CACR-SSL small_scale_experiments/losses/__init__.py
    Difference: the Euclidean cost only, without the debiased variant
    Degenerate: one image has no negatives; only the attraction is left. Labels are ignored.

    Args:
        views: views of each image; 5 (an anchor and 4 positives) in the paper
        attraction_weight: a, >= 0
        repulsion_weight: b, >= 0
        positive_sharpness: s, >= 0; 0 weighs positives equally
        negative_sharpness: r, >= 0; 0 weighs negatives equally
        detach_weights: no gradient through p and q, as in the authors' ImageNet code
    """

    views: Annotated[int, Interval(ge=2, le=8)] = 3
    attraction_weight: Annotated[float, Ge(0)] = 1.0
    repulsion_weight: Annotated[float, Ge(0)] = 1.0
    positive_sharpness: Annotated[float, Ge(0)] = 1.0
    negative_sharpness: Annotated[float, Ge(0)] = 1.0
    detach_weights: bool = False

    @property
    def requirements(self) -> Requirements:
        exempt = {"view_swap": "a view repels the later ones only"}
        if self.views > 2:
            exempt["rotation"] = "the check turns two views of three"
        if self.detach_weights:
            exempt["gradient"] = "the weights carry no gradient"
        return Requirements(needs=("projections",), views=("full",) * self.views, exempt=exempt)

    def __call__(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, projections: Views | None = None
    ) -> Tensor:
        """`projections`: one (N, D) tensor per view; without them z1 and z2 are the views."""
        views = [unit(view) for view in projections or (z1, z2)]
        loss = self.attraction_weight * self._attraction(views)
        if len(z1) < 2:
            return loss
        pairs = list(combinations(views, 2))
        return loss - self.repulsion_weight * sum(self._repulsion(x, y) for x, y in pairs) / len(pairs)

    def _attraction(self, views: list[Tensor]) -> Tensor:
        stacked = torch.stack(views, dim=1)  # (N, V, D)
        cost = 2 - 2 * stacked @ stacked.mT  # (N, V, V)
        other = others(len(views), cost.device)
        weight = self._weights((self.positive_sharpness * cost).masked_fill(~other, -torch.inf))
        return (weight * cost).sum(dim=2).mean()

    def _repulsion(self, x: Tensor, y: Tensor) -> Tensor:
        cost = 2 - 2 * x @ y.T  # (N, N)
        other = others(len(x), x.device)
        weight = self._weights((-self.negative_sharpness * cost).masked_fill(~other, -torch.inf))
        return (weight * cost).sum(dim=1).mean()

    def _weights(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits.detach() if self.detach_weights else logits, dim=-1)
