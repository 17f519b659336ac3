from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Views


@dataclass(frozen=True)
class SwAV:
    """SwAV: predict the cluster of the other view; optimal transport makes clusters equally large.

        L = -1/2 mean_i sum_k [ q2_ik log softmax_k(s1_i / t) + q1_ik log softmax_k(s2_i / t) ]

    s = u W^T are cosines with K learned prototypes. The codes q are softmax(s / e) brought, by Sinkhorn steps, to equal
    mass for every prototype; they take no gradient. For batches smaller than K, a queue of earlier projections joins
    the transport.

    With k local views (the view `multi_crop`) each of them predicts q1 and q2 too, and the factor is 1 / (2 + 2k).

    Group: core
    Source: arXiv 2006.09882; facebookresearch/swav main_swav.py
    Difference: small crops only if the suite's views make them; Sinkhorn in log space; the prototypes are normalised
    in the graph (there: once before every step); the queue fills from the first step on; its empty rows prefer no
    prototype
    Degenerate: one image, or equal rows, have uniform codes. Labels are ignored.

    Args:
        prototypes: K, >= 1; 3000 for the 1000 classes of ImageNet; some 10 a class on small data
        temperature: t, > 0
        sharpness: e, temperature of the codes, > 0; too large makes all codes equal
        iterations: Sinkhorn steps, >= 1
        frozen_epochs: epochs in which the prototypes are not trained
        queue: projections kept of each view, 0 for none; 3840 in the paper for batches of 256
        queue_epoch: the first epoch (from 0) whose codes use the queue
    """

    prototypes: Annotated[int, Ge(1)] = 100
    temperature: Annotated[float, Gt(0)] = 0.1
    sharpness: Annotated[float, Gt(0)] = 0.05
    iterations: Annotated[int, Ge(1)] = 3
    frozen_epochs: Annotated[int, Ge(0)] = 1
    queue: Annotated[int, Ge(0)] = 0
    queue_epoch: Annotated[int, Ge(0)] = 15

    def build(self, setting: Setting) -> nn.Module:
        return _SwAV(setting.width("swav"), self, setting.generator())


class _SwAV(nn.Module):
    """`prototypes` (K, D) are learned; `queue` (2, Q, D) holds earlier unit rows of both views, the latest first."""

    queue: Tensor

    def __init__(self, dim: int, settings: SwAV, generator: torch.Generator):
        super().__init__()
        self.settings = settings
        exempt = {"gradient": "the codes are held fixed", "rotation": "the prototypes are directions of their own"}
        self.requirements = Requirements(needs=("local_projections", "epoch"), exempt=exempt)
        self.prototypes = nn.Parameter(unit(torch.randn(settings.prototypes, dim, generator=generator)))
        self.register_buffer("queue", torch.zeros(2, settings.queue, dim))

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        epoch: int = 0,
        local_projections: Views = (),
    ) -> Tensor:
        settings = self.settings
        prototypes = unit(self.prototypes)
        if epoch < settings.frozen_epochs:
            prototypes = prototypes.detach()
        rows = unit(z1), unit(z2)
        scores = [(view @ prototypes.T).to(view.dtype) for view in rows]  # (N, K) each
        with torch.no_grad():
            pools = scores
            if settings.queue and epoch >= settings.queue_epoch:
                earlier = [(view @ prototypes.T).to(scores[0].dtype) for view in self.queue]  # (Q, K)
                pools = [torch.cat(pair) for pair in zip(scores, earlier, strict=True)]
            codes = [self._codes(pool)[: len(z1)] for pool in pools]
        if settings.queue and self.training and torch.is_grad_enabled():
            self._remember(rows)
        local_scores = [(unit(z) @ prototypes.T).to(z.dtype) for z in local_projections]
        guess1, guess2, *local = (
            nn.functional.log_softmax(s / settings.temperature, dim=1) for s in (*scores, *local_scores)
        )
        agreement = (codes[1] * guess1).sum(dim=1) + (codes[0] * guess2).sum(dim=1)
        for guess in local:
            agreement = agreement + ((codes[0] + codes[1]) * guess).sum(dim=1)
        return -agreement.mean() / (2 + 2 * len(local))

    def _codes(self, scores: Tensor) -> Tensor:
        """(n, K) assignments: every row sums to 1, and the columns, nearly, to n / K."""
        log_mass = scores / self.settings.sharpness
        for _ in range(self.settings.iterations):
            log_mass = log_mass - log_mass.logsumexp(dim=0, keepdim=True)
            log_mass = log_mass - log_mass.logsumexp(dim=1, keepdim=True)
        return log_mass.exp()

    def _remember(self, rows: tuple[Tensor, Tensor]) -> None:
        latest = torch.stack(rows).detach().to(self.queue.dtype)  # (2, N, D)
        self.queue = torch.cat([latest, self.queue], dim=1)[:, : self.queue.shape[1]].contiguous()
