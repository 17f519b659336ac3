from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup import seeds
from cl_semisup.losses import Requirements, Setting, Share
from cl_semisup.losses._schedule import drawn


@dataclass(frozen=True)
class LeJEPA:
    """LeJEPA: views agree, and embeddings are pushed towards a standard Gaussian (SIGReg).

        L = (1 - l) mean_{v,i,d} (z_vid - m_id)^2 + l mean_{v,s} T(Z_v a_s),   m: mean of the views
        T(x) = N int_{-r}^{r} | 1/N sum_n exp(i k x_n) - exp(-k^2 / 2) |^2 exp(-k^2 / 2) dk

    on raw projections, not normalised. T is the Epps-Pulley statistic of one direction: the distance between the
    characteristic functions of the batch and of N(0, 1), by the trapezoidal rule. The unit directions a_s are drawn
    anew in every step, as a function of the seed and the progress.

    Group: further
    Source: arXiv 2511.08544 (SIGReg and LeJEPA); galilai-group/lejepa MINIMAL.md
    Difference: two views, both of the full recipe (there: two large crops and several small ones, drawn to the mean of
    the large)
    Degenerate: one image and equal rows are finite. Labels are ignored.

    Args:
        weight: l, share of SIGReg, in [0, 1]; 0.02 to 0.05 in the paper
        directions: number of random directions, >= 1; 256 to 1024 in the paper
        points: knots k in [0, r] of the trapezoidal rule; the integrand is even
        reach: r, > 0
    """

    weight: Share = 0.02
    directions: Annotated[int, Ge(1)] = 256
    points: Annotated[int, Ge(2)] = 17
    reach: Annotated[float, Gt(0)] = 3.0

    def build(self, setting: Setting) -> nn.Module:
        return _LeJEPA(self, setting.seed)


class _LeJEPA(nn.Module):
    """Without state: the directions depend on seed and progress."""

    def __init__(self, settings: LeJEPA, seed: int):
        super().__init__()
        self.settings, self.seed = settings, seed
        self.requirements = Requirements(
            needs=("progress",), exempt={"rotation": "a finite number of directions is drawn"}
        )

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, progress: float = 0.0) -> Tensor:
        wide = torch.promote_types(z1.dtype, torch.float32)
        z1, z2 = z1.to(wide), z2.to(wide)
        invariance = (z1 - z2).square().mean() / 4  # a view is half the difference away from the mean
        directions = self.directions(z1, progress)
        sigreg = (self._statistic((z1 @ directions).to(wide)) + self._statistic((z2 @ directions).to(wide))) / 2
        return (1 - self.settings.weight) * invariance + self.settings.weight * sigreg

    def directions(self, like: Tensor, progress: float) -> Tensor:
        """(D, S) unit columns for this point of the training, on the device and in the precision of `like`.

        They are drawn on the host, so that every device has the same.
        """

        def draw(progress: float) -> Tensor:
            generator = torch.Generator().manual_seed(seeds.seed("directions", self.seed, progress))
            return torch.randn(like.shape[1], self.settings.directions, generator=generator)

        return nn.functional.normalize(drawn(draw, progress, like.device).to(like.dtype), dim=0)

    def _statistic(self, x: Tensor) -> Tensor:
        """Mean over the directions of N times the integral; x (N, S)."""
        reach, points = self.settings.reach, self.settings.points
        knots = torch.linspace(0, reach, points, dtype=x.dtype, device=x.device)  # (K,)
        weights = torch.full_like(knots, 2 * reach / (points - 1))  # twice the step, since the integrand is even
        weights[:: points - 1] /= 2
        gaussian = torch.exp(-knots.square() / 2)
        phase = x[:, :, None] * knots  # (N, S, K)
        gap = (phase.cos().mean(dim=0) - gaussian).square() + phase.sin().mean(dim=0).square()  # (S, K)
        return (gap * gaussian * weights).sum(dim=1).mean() * len(x)
