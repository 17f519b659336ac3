from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn

from cl_semisup.contrast import mean
from cl_semisup.losses import Setting
from cl_semisup.losses._class_weights import ASKS, ClassWeights


@dataclass(frozen=True)
class NONL:
    """NONL: cross-entropy on the sphere with negatives only in the denominator.

        L = mean over labelled rows i of  -log [ exp(w_{y_i}.u_i / t) / Z_i ]
        images:   Z_i = sum_{j: y_j != y_i} exp(w_{y_i}.u_j / t)   (rows of other classes, for the own class's weight)
        classes:  Z_i = sum_{c != y_i} exp(w_c.u_i / t)            (weights of other classes, for the own row)
        both:     the sum of the two

    over the rows u of both views of the labelled images; w are unit weights, one a class, trained with the network.
    Batches are drawn from the labelled images only.

    Group: further
    Source: arXiv 2605.20302; pakoromilas/nc_by_design@4ee84352 losses.py (NONL: symmetric, neither, bidirectional)
    Difference: on the projections of two views, all rows together, where the code has one view
    Degenerate: rows without a negative are left out; without any row it is 0 with a graph.

    Args:
        temperature: t, > 0
        negatives: what stands in the denominator; images is the code's default
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    negatives: Literal["images", "classes", "both"] = "images"

    def build(self, setting: Setting) -> nn.Module:
        return _NONL(setting, self)


class _NONL(ClassWeights):
    requirements = replace(
        ASKS, exempt={**ASKS.exempt, "unlabelled": "a single class leaves no negative, as no label does"}
    )

    def __init__(self, setting: Setting, settings: NONL):
        super().__init__(setting, "nonl")
        self.temperature, self.negatives = settings.temperature, settings.negatives

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u, y, w = self.rows(z1, z2, labels)
        known = y >= 0
        logits = u @ w.T / self.temperature  # (2L, C)
        own = torch.arange(w.shape[0], device=y.device) == y[:, None]
        negative = logits.masked_fill(own | ~known[:, None], -torch.inf)
        sums = []
        if self.negatives != "classes":
            sums.append(_log_sum(negative.T)[y.clamp(min=0)])
        if self.negatives != "images":
            sums.append(_log_sum(negative))
        total = sums[0] if len(sums) == 1 else torch.logaddexp(*sums)
        some = (total > -torch.inf) & known
        errors = total.masked_fill(~some, 0.0) - logits.gather(1, y.clamp(min=0)[:, None]).squeeze(1)
        return mean(errors, some, z1, z2)


def _log_sum(logits: Tensor) -> Tensor:
    """(n,) log of the sum of exp over a row; -inf, without a gradient, where every entry is -inf."""
    some = (logits > -torch.inf).any(dim=1)
    return logits.masked_fill(~some[:, None], 0.0).logsumexp(dim=1).masked_fill(~some, -torch.inf)
