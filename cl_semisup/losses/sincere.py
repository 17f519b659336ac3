from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import both, identities, logsumexp, others, same
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class SINCERE:
    """SINCERE: supervised InfoNCE in which classmates attract and are never negatives.

        L = mean_a 1/|P(a)| sum_{p in P(a)} -log [ exp(s_ap / t) / (exp(s_ap / t) + sum_{n in N(a)} exp(s_an / t)) ]

    P(a): all views but a of images of the same identity; N(a): all views of other identities. SupCon also has the other
    positives in the denominator, so it pushes classmates apart. An unlabelled image is an identity of its own: with no
    label at all this is NT-Xent, exactly.

    Group: further
    Source: arXiv 2309.14277, equation 7; tufts-ml/SupContrast@f3077248 revised_losses.py
    Difference: unlabelled images keep their view pair as positives
    Degenerate: without a negative it is 0 with a graph; one image and one class stay finite.

    Args:
        temperature: t, > 0; 0.07 in the code
    """

    temperature: Annotated[float, Gt(0)] = 0.1

    requirements: ClassVar[Requirements] = Requirements(labels=True)

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.per_image(z1, z2, labels).mean()

    def per_image(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N,) mean over each image's two anchors."""
        z = both(z1, z2)  # (2N, D)
        logits = z @ z.T / self.temperature  # (2N, 2N)
        known = same(identities(labels, len(z1), z.device).repeat(2))
        positive = known & others(len(z), z.device)
        negatives = logsumexp(logits, ~known)[:, None]  # (2N, 1); -inf without a negative
        errors = torch.logaddexp(logits, negatives) - logits
        anchors = (errors * positive).sum(dim=1) / positive.sum(dim=1)
        return anchors.view(2, -1).mean(dim=0)
