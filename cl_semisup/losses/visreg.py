from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup import seeds
from cl_semisup.losses import Requirements, Setting, Share
from cl_semisup.losses._schedule import drawn

EPS = 1e-4  # added to a standard deviation before it divides


@dataclass(frozen=True)
class VISReg:
    """VISReg: views agree; mean, scale and shape of the embeddings are those of a standard Gaussian, each by itself.

        L = (1 - l) mean_{v,i,d} (z_vid - m_id)^2 + l mean_v [ a S(Z_v) + b W(Z_v) + c M(Z_v) ],   m: mean of the views
        M = mean_d mean_d^2,   S = mean_d (1 - std_d)^2
        W = mean_s mean_n ( sort(Y d_s)_n - q_n )^2,   Y = (Z - mean) / (std without gradient + 1e-4)

    on raw projections. q_n is the quantile n / (N + 1) of N(0, 1): W is a sliced Wasserstein distance. The unit
    directions d_s are drawn anew in every step, as a function of the seed and the progress. The gradient of S does not
    vanish as embeddings collapse.

    Group: reproductions
    Source: arXiv 2606.02572, equations 1, 2, 5, 6 and 8
    Difference: two views, both of the full recipe (there: two large crops and several small ones, drawn to the mean of
    the large); 256 directions unless set (there 4,096); written from the equations, not compared with the authors' code
    Degenerate: one image and equal rows are finite. Labels are ignored.

    Args:
        weight: l, share of the regularisation, in [0, 1]; 0.6 for small data and 0.9 for large in the paper
        directions: number of random directions, >= 1
        scale: a, >= 0
        shape: b, >= 0
        center: c, >= 0
    """

    weight: Share = 0.6
    directions: Annotated[int, Ge(1)] = 256
    scale: Annotated[float, Ge(0)] = 1.0
    shape: Annotated[float, Ge(0)] = 1.0
    center: Annotated[float, Ge(0)] = 1.0

    def build(self, setting: Setting) -> nn.Module:
        return _VISReg(self, setting.seed)


class _VISReg(nn.Module):
    """Without state: the directions depend on seed and progress."""

    def __init__(self, settings: VISReg, seed: int):
        super().__init__()
        self.settings, self.seed = settings, seed
        exempt = {
            "rotation": "a finite number of directions is drawn, and standard deviations are of dimensions",
            "gradient": "the deviation that divides takes no gradient",
        }
        self.requirements = Requirements(needs=("progress",), exempt=exempt)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, progress: float = 0.0) -> Tensor:
        dtype = torch.promote_types(z1.dtype, torch.float32)
        z1, z2 = z1.to(dtype), z2.to(dtype)
        invariance = (z1 - z2).square().mean() / 4  # a view is half the difference away from the mean
        directions = self.directions(z1, progress)
        regularisation = (self._regularise(z1, directions) + self._regularise(z2, directions)) / 2
        return (1 - self.settings.weight) * invariance + self.settings.weight * regularisation

    def directions(self, like: Tensor, progress: float) -> Tensor:
        """(D, S) unit columns for this point of the training, on the device and in the precision of `like`.

        They are drawn on the host, so that every device has the same.
        """

        def draw(progress: float) -> Tensor:
            generator = torch.Generator().manual_seed(seeds.seed("directions", self.seed, progress))
            return torch.randn(like.shape[1], self.settings.directions, generator=generator)

        return nn.functional.normalize(drawn(draw, progress, like.device).to(like.dtype), dim=0)

    def _regularise(self, z: Tensor, directions: Tensor) -> Tensor:
        mean = z.mean(dim=0)
        variance = (z - mean).square().mean(dim=0)
        varied = variance > 0  # the root of 0 has no gradient; a constant dimension has deviation 0
        deviation = torch.where(varied, torch.where(varied, variance, torch.ones_like(variance)).sqrt(), 0.0)
        sorted_rows = (((z - mean) / (deviation.detach() + EPS)) @ directions).to(z.dtype).sort(dim=0).values  # (N, S)
        precise = torch.float32 if z.device.type == "mps" else torch.float64  # mps has no float64
        positions = torch.arange(1, len(z) + 1, device=z.device, dtype=precise) / (len(z) + 1)
        quantiles = torch.special.ndtri(positions).to(z.dtype)
        settings = self.settings
        return (
            settings.scale * (1 - deviation).square().mean()
            + settings.shape * (sorted_rows - quantiles[:, None]).square().mean()
            + settings.center * mean.square().mean()
        )
