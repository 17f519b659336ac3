from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.contrast import mean
from cl_semisup.losses import Asks


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of a linear classifier on the backbone's features: the supervised baseline on the labelled images.

        L = mean over labelled images and both views of  -sum_c q_c log softmax(logits)_c
        q = (1 - e) onehot(y) + e / C

    Batches are drawn from the labelled images only, as many steps as any other loss gets.

    Source: label smoothing as in arXiv 1512.00567
    Difference: None
    Degenerate: without a labelled image it is 0 with a graph.

    Args:
        label_smoothing: e, in [0, 1)
    """

    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0

    asks: ClassVar[Asks] = Asks(
        labels=True,
        needs=("logits",),
        trains_on="labelled",
        exempt={"rotation": "the classifier's rows are directions of their own"},
    )

    def __call__(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, logits: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """`logits`: two (N, C) outputs of the classifier, one a view; without them z1 and z2 are taken as such."""
        logits = logits or (z1, z2)
        return mean(self.per_image(z1, z2, labels, logits), self.counts(z1, labels), *logits)

    def per_image(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, logits: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(N,) mean over both views; of an image that does not count, anything finite."""
        target = labels.clamp(min=0) if labels is not None else self.counts(z1, labels).long()
        logits1, logits2 = logits or (z1, z2)
        return (self._of_view(logits1, target) + self._of_view(logits2, target)) / 2

    def counts(self, z1: Tensor, labels: Tensor | None) -> Tensor:
        """(N,) bool: has the image a value, that is, a label?"""
        return labels >= 0 if labels is not None else torch.zeros(len(z1), dtype=torch.bool, device=z1.device)

    def _of_view(self, logits: Tensor, target: Tensor) -> Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return torch.nn.functional.cross_entropy(wide, target, reduction="none", label_smoothing=self.label_smoothing)
