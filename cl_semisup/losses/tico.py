from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views


@dataclass(frozen=True)
class TiCo:
    """TiCo: align the views, and avoid the directions of earlier embeddings (their covariance).

        C_t = b C_{t-1} + (1 - b) 1/N sum_i u_i u_i^T
        L = 1 - mean_i u_i.v_i + r mean_i u_i^T C_t u_i

    with unit rows u of view 1 and v of view 2, the latter through the momentum encoder. C_t takes no gradient.

    Group: further
    Source: arXiv 2206.10698; sayannag/TiCo-pytorch TiCo/main.py
    Difference: the constant 1, so that the value is not negative, and C_t without a gradient, both as in lightly (in
    that code this batch's share of it, 1 - b, has one); the momentum encoder follows every step, not every epoch
    Degenerate: equal rows end at L = r. Labels are ignored.

    Args:
        rho: r, weight of the covariance term, >= 0; 8 in the paper, 20 in code
        beta: b, memory of the covariance, in [0, 1)
        momentum_encoder: take view 2 from the momentum encoder rather than from the network itself
        momentum: decay of the momentum encoder at the first step, cosine to 1
    """

    rho: Annotated[float, Ge(0)] = 8.0
    beta: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    momentum_encoder: bool = True
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        return _TiCo(setting.width("tico"), self)


class _TiCo(nn.Module):
    """`covariance` (D, D) is C."""

    covariance: Tensor

    def __init__(self, dim: int, settings: TiCo):
        super().__init__()
        self.rho, self.beta = settings.rho, settings.beta
        self.requirements = Requirements(
            needs=("momentum_projections",) if settings.momentum_encoder else (),
            momentum=(settings.momentum, 1.0),
            exempt={"view_swap": "the covariance is of the first view", "gradient": "the covariance is held fixed"},
        )
        self.register_buffer("covariance", torch.zeros(dim, dim))

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, momentum_projections: Views | None = None
    ) -> Tensor:
        u, v = unit(z1), unit(z2 if momentum_projections is None else momentum_projections[1])
        rows = u.detach()
        covariance = self.beta * self.covariance + (1 - self.beta) * (rows.T @ rows) / len(rows)  # (D, D)
        if self.training and torch.is_grad_enabled():
            self.covariance = covariance.to(self.covariance.dtype)
        return 1 - (u * v).sum(dim=1).mean() + self.rho * ((u @ covariance) * u).sum(dim=1).mean()
