from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import nothing, others, unit


@dataclass(frozen=True)
class FDivergence:
    """Contrastive loss inspired by variational f-divergence bounds: separate true pairs of views from crossed ones.

        L = -[ mean_i f'(r_ii) - mean_{i != j} (r_ij f'(r_ij) - f(r_ij)) ],  r_ij = exp(l_ij), l_ij = u_i.v_j / t + b

    r estimates the ratio of the densities of true and crossed pairs. f'(r) is the critic of the variational bound; this
    form keeps it within the bound's domain. f'(r) and r f'(r) - f(r) as functions of l:

        kl           1 + l                e^l
        reverse_kl   -e^-l                l - 1
        js           -softplus(-l)        softplus(l)
        pearson      2 (e^l - 1)          e^2l - 1
        hellinger    1 - e^(-l/2)         e^(l/2) - 1

    js is the sigmoid loss over pairs. l is kept within +-limit.

    Source: arXiv 2006.10810 (stable form of the bound, for imitation), bound of arXiv 1606.00709 (f-GAN); no code
    Difference: inspired by; neither paper compares views of images, and the critic here is the cosine itself
    Degenerate: one image has no crossed pairs: 0 with a graph. Labels are ignored.

    Args:
        divergence: f
        temperature: t, > 0
        bias: b
        limit: largest |l|, > 0; no gradient beyond
    """

    divergence: Literal["kl", "reverse_kl", "js", "pearson", "hellinger"] = "js"
    temperature: Annotated[float, Gt(0)] = 0.5
    bias: float = 0.0
    limit: Annotated[float, Gt(0)] = 10.0

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if len(z1) < 2:
            return nothing(z1, z2)
        logits = (unit(z1) @ unit(z2).T / self.temperature + self.bias).clamp(-self.limit, self.limit)  # (N, N)
        count = len(logits)
        crossed = torch.where(others(count, logits.device), self._conjugate(logits), 0.0)
        return crossed.sum() / (count * (count - 1)) - self._critic(logits.diagonal()).mean()

    def _critic(self, logit: Tensor) -> Tensor:
        """f'(r) at r = exp(logit)."""
        match self.divergence:
            case "kl":
                return 1 + logit
            case "reverse_kl":
                return -(-logit).exp()
            case "js":
                return -F.softplus(-logit)
            case "pearson":
                return 2 * logit.expm1()
            case _:
                return -(-logit / 2).expm1()

    def _conjugate(self, logit: Tensor) -> Tensor:
        """f*(f'(r)) = r f'(r) - f(r) at r = exp(logit)."""
        match self.divergence:
            case "kl":
                return logit.exp()
            case "reverse_kl":
                return logit - 1
            case "js":
                return F.softplus(logit)
            case "pearson":
                return (2 * logit).expm1()
            case _:
                return (logit / 2).expm1()
