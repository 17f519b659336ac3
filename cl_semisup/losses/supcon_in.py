from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import identities, logsumexp, same, unit
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class SupConIn:
    """The supervised contrastive variant of CLOP's authors: one-sided, cross-view, log of the summed positives.

        L = mean_i -log [ sum_{p in P(i)} exp(u_i.v_p / t) / sum_a exp(u_i.v_a / t) ]

    P(i) = {i} and every labelled image of the same class. Neither L_in nor L_out of SupCon: view-1 anchors meet
    view-2 keys only, and the sum over positives is not divided by their number. Without labels it is one-sided InfoNCE.

    Group: core
    Source: manhbeo/CLOP supervised.py
    Difference: in log space, so without the 1e-8 added to the denominator there
    Degenerate: one image, or one class and all labelled, gives 0.

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.2

    requirements: ClassVar[Requirements] = Requirements(
        labels=True, exempt={"view_swap": "view-1 anchors meet view-2 keys only"}
    )

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.per_image(z1, z2, labels).mean()

    def per_image(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N,) value of each image's one anchor."""
        logits = unit(z1) @ unit(z2).T / self.temperature  # (N, N)
        positive = same(identities(labels, len(z1), z1.device))
        return torch.logsumexp(logits, dim=1) - logsumexp(logits, positive)
