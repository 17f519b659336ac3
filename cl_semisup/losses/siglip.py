import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Setting


@dataclass(frozen=True)
class SigLIP:
    """SigLIP: a binary classification of every pair of views: the same image or not.

        L = -1/N sum_i sum_j log sigmoid( m_ij (t u_i.v_j + b) ),   m_ii = 1, m_ij = -1

    with t = exp(t') and b learned along with the network, without weight decay.

    Group: further
    Source: arXiv 2303.15343; google-research/big_vision trainers/proj/image_text/siglip.py
    Difference: None
    Degenerate: one image has its positive only. Labels are ignored.

    Args:
        scale: t at the start, > 0
        bias: b at the start; about -log(N) or less, since most pairs are negatives
    """

    scale: Annotated[float, Gt(0)] = 10.0
    bias: float = -10.0

    def build(self, setting: Setting) -> nn.Module:
        return _Sigmoid(self.scale, self.bias)


class _Sigmoid(nn.Module):
    """The loss with its two learned parameters: `log_scale` (t') and `bias` (b)."""

    def __init__(self, scale: float, bias: float):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = unit(z1) @ unit(z2).T * self.log_scale.exp() + self.bias  # (N, N)
        sign = 2 * torch.eye(len(z1), dtype=logits.dtype, device=logits.device) - 1
        return -nn.functional.logsigmoid(sign * logits).sum(dim=1).mean()
