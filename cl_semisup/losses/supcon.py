from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import attraction, both, chunked, identities, logsumexp, others, same
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class SupCon:
    """Supervised contrastive loss (L_out), semi-supervised: known classmates are positives too.

        L = mean_a  -1/|P(a)| sum_{b in P(a)} [ s_ab / t - log sum_{c != a} exp(s_ac / t) ]

    P(a): all views but a of images of the same identity; an unlabelled image is an identity of its own. So with all
    labels this is SupCon, with none it is NT-Xent, exactly.

    Group: core
    Source: arXiv 2004.11362 (L_out); HobbitLong/SupContrast losses.py
    Difference: without the factor temperature / base_temperature, which is 1 at the default temperature there (0.07)
    and would be 0.1 / 0.07 = 1.43 at the default here; unlabelled images keep their view pair as positives.
    solo-learn with labels sums the positives inside the logarithm, which is another loss
    Degenerate: P(a) holds at least the other view; one image or one class stays finite.

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.1

    requirements: ClassVar[Requirements] = Requirements(labels=True)

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.per_image(z1, z2, labels).mean()

    def per_image(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N,) mean over each image's two anchors."""
        z = both(z1, z2)  # (2N, D)
        if chunked.too_large(len(z), len(z)):
            rows = torch.arange(len(z), device=z.device)
            total = chunked.log_sum(z, z, self.temperature, rows, rows)
            ids = identities(labels, len(z1), z.device).repeat(2)
            return (total - attraction(z, self.temperature, ids)).view(2, -1).mean(dim=0)
        logits = z @ z.T / self.temperature  # (2N, 2N)
        other = others(len(z), z.device)
        positive = same(identities(labels, len(z1), z.device).repeat(2)) & other
        pull = (logits * positive).sum(dim=1) / positive.sum(dim=1)
        return (logsumexp(logits, other) - pull).view(2, -1).mean(dim=0)
