from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._predictor import Predictor


@dataclass(frozen=True)
class MoCoV3:
    """MoCo v3: predictions of one view identify the momentum encoder's projection of the other among the batch.

        L = ctr(p(z1), k2) + ctr(p(z2), k1)
        ctr(q, k) = 2 t mean_i [ log sum_j exp(cos(q_i, k_j) / t) - cos(q_i, k_i) / t ]

    p is a predictor of two layers on the projections, trained with the network; the keys k are the projections of the
    momentum encoder, which take no gradient.

    Group: core
    Source: arXiv 2104.02057; facebookresearch/moco-v3 moco/builder.py
    Difference: no batch norm on the outputs of projector and predictor
    Degenerate: one image gives 0, since its positive is the only key. Labels are ignored.

    Args:
        temperature: t, > 0; 0.2 for transformers, 1 for ResNets on ImageNet
        hidden: width of the predictor's hidden layer, >= 1; 4096 in the paper
        momentum: decay of the momentum encoder at the first step, cosine to 1
    """

    temperature: Annotated[float, Gt(0)] = 0.2
    hidden: Annotated[int, Ge(1)] = 512
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        predictor = Predictor(setting.width("moco_v3"), self.hidden, setting.seed)
        return _MoCoV3(predictor, self.temperature, self.momentum)


class _MoCoV3(nn.Module):
    def __init__(self, predictor: nn.Module, temperature: float, momentum: float):
        super().__init__()
        self.predictor, self.temperature = predictor, temperature
        self.requirements = Requirements(
            needs=("momentum_projections",),
            momentum=(momentum, 1.0),
            exempt={"rotation": "the predictor's weights are directions of their own"},
        )

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, momentum_projections: Views | None = None
    ) -> Tensor:
        keys1, keys2 = momentum_projections or (z1.detach(), z2.detach())
        return self._contrast(self.predictor(z1), keys2) + self._contrast(self.predictor(z2), keys1)

    def _contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Cross-entropy of each query's own key among all keys, times 2 t."""
        logits = unit(queries) @ unit(keys).T / self.temperature  # (N, N)
        return 2 * self.temperature * (torch.logsumexp(logits, dim=1) - logits.diagonal()).mean()
