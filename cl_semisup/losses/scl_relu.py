from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import both, identities, logsumexp, others, same
from cl_semisup.losses import Requirements


@dataclass(frozen=True)
class SCLReLU:
    """Supervised contrastive loss on ReLU features, with batch binding: class means become orthogonal.

        L = mean_a  1/|P(a)| sum_{b in P(a)} log sum_{c != a} exp( (h_a.h_c - h_a.h_b) / t ),   h = relu(z) / |relu(z)|

    P(a): all views but a of images of the same identity; an unlabelled image is an identity of its own. With
    non-negative features the optimum is h_a.h_b = 1 for a class and 0 otherwise whatever the class sizes; it needs
    D >= C. Batch binding adds one labelled image of each class, the same in every step, to every batch. So batches
    share images and hold every class, as the optimum of mini-batch training requires.

    Group: reproductions
    Source: arXiv 2306.07960 (also as "Supervised-contrastive loss learns orthogonal frames and batching matters")
    Difference: unlabelled images take part with their own view as positive; a mean over anchors for the sum
    Degenerate: a row without a positive entry becomes 0, similar to nothing and without a gradient; one image gives 0.

    Args:
        temperature: t, > 0
        batch_binding: whether the bound images join every batch
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    batch_binding: bool = True

    @property
    def requirements(self) -> Requirements:
        bound = 1 if self.batch_binding else 0
        return Requirements(labels=True, bound=bound, exempt={"rotation": "ReLU is of single dimensions"})

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        h = both(z1.relu(), z2.relu())  # (2N, D)
        logits = h @ h.T / self.temperature  # (2N, 2N)
        other = others(len(h), h.device)
        positive = same(identities(labels, len(z1), h.device).repeat(2)) & other
        attraction = (logits * positive).sum(dim=1) / positive.sum(dim=1)
        return (logsumexp(logits, other) - attraction).mean()
