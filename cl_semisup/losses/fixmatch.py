from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from cl_semisup.losses import Requirements, Share
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import WEAK_TO_STRONG, supervised


@dataclass(frozen=True)
class FixMatch:
    """FixMatch: confident predictions of the classifier on a weak view are its targets on a strong view.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i 1[max_c p_ic >= T] CE(strong_i, argmax_c p_ic)

    p = softmax(weak), without a gradient; `weak` and `strong` are a linear classifier's outputs on the backbone's
    features of the two views. The second mean is over all images, confident or not.

    Group: semi-supervised
    Source: arXiv 2001.07685; google-research/fixmatch fixmatch.py
    Difference: labelled and unlabelled images come in the same batches, so their ratio is the label fraction's (there
    64 to 448), and labelled images get pseudo-labels too; the strong view is the suite's view (there CTAugment
    or RandAugment with Cutout); no averaged weights are evaluated
    Degenerate: without a labelled image the first term is 0; without a confident image the second is 0. Both keep a
    graph.

    Args:
        threshold: T, in [0, 1]
        weight: w, >= 0
    """

    threshold: Share = 0.95
    weight: Annotated[float, Ge(0)] = 1.0

    requirements: ClassVar[Requirements] = Requirements(
        labels=True, needs=("logits",), views=("weak", "full"), exempt=WEAK_TO_STRONG
    )

    def __call__(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, logits: tuple[Tensor, Tensor]
    ) -> Tensor:
        weak, strong = (wide(view) for view in logits)  # (N, C)
        confidence, best = weak.detach().softmax(dim=1).max(dim=1)
        errors = F.cross_entropy(strong, best, reduction="none") * (confidence >= self.threshold)
        return supervised(weak, labels) + self.weight * errors.mean()
