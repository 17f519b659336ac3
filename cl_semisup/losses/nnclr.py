from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting
from cl_semisup.losses._predictor import Predictor
from cl_semisup.losses._pseudo_labels import Ring


@dataclass(frozen=True)
class NNCLR:
    """NNCLR: the positive of an image is the nearest neighbour of its view in a queue of earlier projections.

        L = 1/2 [ l(z1, z2) + l(z2, z1) ],   l(a, b) = mean_i -log [ exp(n_i.p_i / t) / sum_j exp(n_i.p_j / t) ]

    n_i: the row of the queue with the largest cosine to a_i, without a gradient; p = unit(predictor(b)). After the loss
    the unit rows of z1 replace the oldest of the queue, which starts as random directions.

    Group: further
    Source: arXiv 2104.14548, equations 2 and 3; lightly-ai/lightly benchmarks nnclr.py
    Difference: the predictor's first layer has no bias (batch norm follows)
    Degenerate: one image gives 0. Labels are ignored.

    Args:
        temperature: t, > 0
        queue: rows that are kept, >= 1; 98,304 in the paper, more than there are images makes own views likely
        hidden: width of the predictor's hidden layer, >= 1; 4096 in the paper
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    queue: Annotated[int, Ge(1)] = 4096
    hidden: Annotated[int, Ge(1)] = 512

    def build(self, setting: Setting) -> nn.Module:
        return _NNCLR(self, setting)


class _NNCLR(nn.Module):
    requirements = Requirements(exempt={"rotation": "queue and predictor hold directions of their own"})

    def __init__(self, settings: NNCLR, setting: Setting):
        super().__init__()
        dim = setting.width("nnclr")
        self.temperature = settings.temperature
        self.queue = Ring(settings.queue, rows=torch.zeros(dim))
        self.queue.get_buffer("rows").copy_(unit(torch.randn(settings.queue, dim, generator=setting.generator())))
        self.predictor = Predictor(dim, settings.hidden, setting.seed)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u, v = unit(z1), unit(z2)
        loss = (self._contrast(u, unit(self.predictor(z2))) + self._contrast(v, unit(self.predictor(z1)))) / 2
        if self.training and torch.is_grad_enabled():
            self.queue.store(rows=u.detach())
        return loss

    def _contrast(self, rows: Tensor, predictions: Tensor) -> Tensor:
        bank = self.queue.get_buffer("rows").to(rows.dtype)
        neighbours = bank[(rows.detach() @ bank.T).argmax(dim=1)]  # (N, D), a copy
        logits = neighbours @ predictions.T / self.temperature
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
