from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import nothing, others, unit

# f'(r) and f*(f'(r)) = r f'(r) - f(r), both at r = exp(x)
FORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "kl": (lambda x: 1 + x, torch.exp),
    "reverse_kl": (lambda x: -(-x).exp(), lambda x: x - 1),
    "js": (lambda x: -F.softplus(-x), F.softplus),
    "pearson": (lambda x: 2 * x.expm1(), lambda x: (2 * x).expm1()),
    "hellinger": (lambda x: -(-x / 2).expm1(), lambda x: (x / 2).expm1()),
}


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

    Group: reproductions
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
        count, (critic, conjugate) = len(logits), FORMS[self.divergence]
        crossed = torch.where(others(count, logits.device), conjugate(logits), 0.0)
        return crossed.sum() / (count * (count - 1)) - critic(logits.diagonal()).mean()
