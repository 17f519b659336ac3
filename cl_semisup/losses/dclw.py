from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import both, logsumexp, nothing, partners, same
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class DCLW:
    """Weighted decoupled contrastive learning: DCL with more weight on pairs that are still far apart.

        L = mean_a [ log sum_{b not in {a, p(a)}} exp(s_ab / t) - w_a s_{a,p(a)} / t ]
        w_a = 2 - exp(u_a.v_a / h) / mean_i exp(u_i.v_i / h)

    over the 2N anchors a with partner p(a); both views of an image have the same weight, and the weights have mean 1.

    Group: further
    Source: arXiv 2110.06848 (negative von Mises-Fisher weights); lightly-ai/lightly loss/dcl_loss.py
    Difference: None; the weights carry no gradient, as in lightly
    Degenerate: one image has no negatives: 0 with a graph. Unbounded below as t goes to 0. Labels are ignored.

    Args:
        temperature: t, > 0
        sigma: h, spread of the weights, > 0; larger is closer to DCL
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    sigma: Annotated[float, Gt(0)] = 0.5

    requirements: ClassVar[Requirements] = Requirements(exempt={"gradient": "the weights carry no gradient"})

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if len(z1) < 2:
            return nothing(z1, z2)
        z = both(z1, z2)  # (2N, D)
        similarity = z @ z.T  # (2N, 2N)
        positive = partners(similarity)  # (2N,), each image twice: means over images and over anchors are equal
        weight = 2 - len(z) * torch.softmax(positive.detach() / self.sigma, dim=0)
        images = torch.arange(len(z1), device=z.device).repeat(2)
        energy = logsumexp(similarity / self.temperature, ~same(images))
        return (energy - weight * positive / self.temperature).mean()
