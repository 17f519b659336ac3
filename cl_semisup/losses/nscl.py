from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import both, identities, logsumexp, mean, partners, same
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class NSCL:
    """Negatives-only supervised contrastive loss: DCL without the known classmates among the negatives.

        L = mean_a [ log sum_{b in Neg(a)} exp(s_ab / t) - s_{a,p(a)} / t ]

    The other view p(a) is the only positive; Neg(a) holds all views of images of another identity. An unlabelled image
    is an identity of its own, so every other image is its negative; without any label this is DCL.
    With positive_in_denominator, exp(s_{a,p(a)} / t) joins the sum; without any label that is NT-Xent.

    Group: further
    Source: arXiv 2506.04411 (decoupled form); DLFundamentals/understanding-ssl utils/losses.py WeakNTXentLoss (the
    form with the positive in the denominator)
    Difference: anchors without negatives are left out (the code stops); the paper's constant terms, a view against
    itself, are dropped
    Degenerate: if all is one class, or one image, there is no negative: 0 with a graph.

    Args:
        temperature: t, > 0
        positive_in_denominator: the form of the authors' code instead of the paper's
    """

    temperature: Annotated[float, Gt(0)] = 0.5
    positive_in_denominator: bool = False

    requirements: ClassVar[Requirements] = Requirements(labels=True)

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        z = both(z1, z2)  # (2N, D)
        logits = z @ z.T / self.temperature  # (2N, 2N)
        negative = ~same(identities(labels, len(z1), z.device).repeat(2))
        positive, energy = partners(logits), logsumexp(logits, negative)
        if self.positive_in_denominator:
            energy = torch.logaddexp(energy, positive)
        return mean(energy - positive, negative.any(dim=1), z1, z2)
