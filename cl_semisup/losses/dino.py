import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._schedule import of


@dataclass(frozen=True)
class DINO:
    """DINO: match the momentum encoder's distribution over prototypes, centred and sharpened, of the other view.

        L = -1/2 mean_i sum_k [ P2_ik log softmax_k(s1_i / t) + P1_ik log softmax_k(s2_i / t) ]
        P = softmax((r - c) / t'),   c <- m c + (1 - m) mean(r) after the loss

    s and r are cosines of network and momentum encoder with K prototypes each; the momentum encoder's prototypes follow
    the learned ones as its weights follow the network's. P takes no gradient.

    With k local views (the view `multi_crop`) each of them is matched with P1 and P2 too; the factor is 1 / (2 + 2k).

    Group: core
    Source: arXiv 2104.14294; facebookresearch/dino main_dino.py
    Difference: small crops only if the suite's views make them; t' is constant; no clipping of gradients
    Degenerate: one image is finite. With equal rows P is constant or uniform, so its entropy shows collapse. Labels are
    ignored.

    Args:
        prototypes: K, >= 2; 65536 in the paper, about 1000 on small data
        temperature: t, of the network, > 0
        teacher_temperature: t', of the momentum encoder, > 0; less than t
        centre_momentum: m, memory of the centre, in [0, 1]
        frozen_epochs: epochs in which the prototypes are not trained
        momentum: decay of the momentum encoder at the first step, cosine to 1; 0.996 in the paper, less in short runs
    """

    prototypes: Annotated[int, Ge(2)] = 1024
    temperature: Annotated[float, Gt(0)] = 0.1
    teacher_temperature: Annotated[float, Gt(0)] = 0.04
    centre_momentum: Share = 0.9
    frozen_epochs: Annotated[int, Ge(0)] = 1
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        return _DINO(setting.width("dino"), self, setting.generator())


class _DINO(nn.Module):
    """`prototypes` (K, D) are learned, `slow_prototypes` (K, D) follow them, `centre` (K,) is c."""

    slow_prototypes: Tensor
    centre: Tensor

    def __init__(self, dim: int, settings: DINO, generator: torch.Generator):
        super().__init__()
        self.settings = settings
        self.requirements = Requirements(
            needs=("momentum_projections", "local_projections", "epoch", "progress"),
            momentum=(settings.momentum, 1.0),
            exempt={"rotation": "the prototypes are directions of their own"},
        )
        first = unit(torch.randn(settings.prototypes, dim, generator=generator))
        self.prototypes = nn.Parameter(first)
        self.register_buffer("slow_prototypes", first.clone())
        self.register_buffer("centre", torch.zeros(settings.prototypes))

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        momentum_projections: Views | None = None,
        local_projections: Views = (),
        epoch: int = 0,
        progress: float = 0.0,
    ) -> Tensor:
        settings = self.settings
        learning = self.training and torch.is_grad_enabled()
        if learning:
            self._update_slow_prototypes(progress)
        with torch.no_grad():
            slow = unit(self.slow_prototypes)
            scores = [unit(z) @ slow.T for z in momentum_projections or (z1, z2)]  # (N, K) each
            centred = [(r.to(self.centre.dtype) - self.centre) / settings.teacher_temperature for r in scores]
            target1, target2 = (r.softmax(dim=1) for r in centred)
            if learning:
                mean = torch.cat(scores).to(self.centre.dtype).mean(dim=0)
                self.centre = torch.lerp(mean, self.centre, settings.centre_momentum)
        prototypes = unit(self.prototypes)
        if epoch < settings.frozen_epochs:
            prototypes = prototypes.detach()
        guess1, guess2, *local = (
            nn.functional.log_softmax((unit(z) @ prototypes.T).to(target1.dtype) / settings.temperature, dim=1)
            for z in (z1, z2, *local_projections)
        )
        agreement = (target2 * guess1).sum(dim=1) + (target1 * guess2).sum(dim=1)
        for guess in local:
            agreement = agreement + ((target1 + target2) * guess).sum(dim=1)
        return -agreement.mean() / (2 + 2 * len(local))

    @torch.no_grad()
    def _update_slow_prototypes(self, progress: float) -> None:
        """One EMA step, with the decay that the momentum encoder has."""
        decay = 1 - (1 - self.settings.momentum) * (of(math.cos, math.pi * progress) + 1) / 2
        self.slow_prototypes = torch.lerp(self.prototypes, self.slow_prototypes, decay)
