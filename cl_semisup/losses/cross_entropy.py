from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from cl_semisup.contrast import mean
from cl_semisup.losses import Requirements, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import CLASSIFIER


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of a linear classifier on the backbone's features: the supervised baseline on the labelled images.

        L = mean over labelled images and both views of  -sum_c q_c log softmax(logits)_c
        q = (1 - e) onehot(y) + e / C

    Batches are drawn from the labelled images only, as many steps as any other loss gets.

    Group: core
    Source: label smoothing as in arXiv 1512.00567
    Difference: None
    Degenerate: without a labelled image it is 0 with a graph.

    Args:
        label_smoothing: e, in [0, 1)
    """

    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0

    requirements: ClassVar[Requirements] = Requirements(
        labels=True, needs=("logits",), trains_on="labelled", exempt=CLASSIFIER
    )

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, logits: Views | None = None) -> Tensor:
        """`logits`: two (N, C) outputs of the classifier, one a view; without them z1 and z2 are the logits."""
        logits = logits or (z1, z2)
        return mean(self.per_image(z1, z2, labels, logits), self.counts(z1, labels), *logits)

    def per_image(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, logits: Views | None = None) -> Tensor:
        """(N,) mean over both views; any finite value for an image without a label."""
        target = labels.clamp(min=0) if labels is not None else self.counts(z1, labels).long()
        logits1, logits2 = logits or (z1, z2)
        return (self._per_row(logits1, target) + self._per_row(logits2, target)) / 2

    def counts(self, z1: Tensor, labels: Tensor | None) -> Tensor:
        """(N,) bool: whether an image has a label, and so a value."""
        return labels >= 0 if labels is not None else torch.zeros(len(z1), dtype=torch.bool, device=z1.device)

    def _per_row(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(wide(logits), target, reduction="none", label_smoothing=self.label_smoothing)
