from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import TINY, WEAK_TO_STRONG, supervised


@dataclass(frozen=True)
class SoftMatch:
    """SoftMatch: every pseudo-label counts, with a weight that is a truncated Gaussian of its confidence.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i l(q_i) CE(strong_i, argmax_c p_ic)
        l(q) = exp( -min(q - m, 0)^2 / (2 v / s^2) ),   q_i = max_c p'_ic,   p' = norm(p / P~ / C)

    p = softmax(weak), without a gradient. Moving averages, with this batch: m and v of mean and variance of the q_i,
    which start at 1 / C and 1; P~ of the mean prediction, which starts at that of the first batch. Predictions are
    aligned to uniform classes for the weights alone; pseudo-labels are classes of the predictions as they are.

    Group: semi-supervised
    Source: arXiv 2301.10921, equations 6 to 9; microsoft/Semi-supervised-learning@5d09751f
        semilearn/algorithms/softmatch/utils.py, softmatch.py@7065e703 there, ../hooks/dist_align.py@48de4bf0
    Difference: as for fixmatch: labelled and unlabelled images come in the same batches, labelled ones get
    pseudo-labels too, and the strong view is the suite's view. The 1e-6 that the code adds to both sides of p / P~ is
    left out
    Degenerate: without a labelled image the first term is 0. A batch of one image leaves v as it was.

    Args:
        weight: w, >= 0
        sigmas: s, > 0
        memory: share of the old average that stays in a step
        align: whether predictions are aligned for the weights; otherwise p' = p
    """

    weight: Annotated[float, Ge(0)] = 1.0
    sigmas: Annotated[float, Gt(0)] = 2.0
    memory: Share = 0.999
    align: bool = True

    def build(self, setting: Setting) -> nn.Module:
        return _SoftMatch(self, setting.require("softmatch")[1])


class _SoftMatch(nn.Module):
    """`mean` () is m, `variance` () is v, `predicted` (C,) is P~, all 0 before the first batch."""

    requirements = Requirements(labels=True, needs=("logits",), views=("weak", "full"), exempt=WEAK_TO_STRONG)
    mean: Tensor
    variance: Tensor
    predicted: Tensor

    def __init__(self, settings: SoftMatch, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        self.register_buffer("mean", torch.tensor(1 / classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("predicted", torch.zeros(classes))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, logits: Views) -> Tensor:
        settings, kept = self.settings, self.settings.memory
        weak, strong = (wide(view) for view in logits)  # (N, C)
        guess = weak.detach().softmax(dim=1)
        best, now, before = guess.argmax(dim=1), guess.mean(dim=0), self.predicted.to(guess.dtype)
        predicted = torch.where(before.sum() > 0, kept * before + (1 - kept) * now, now)
        if settings.align:
            guess = guess / (self.classes * predicted).clamp(min=TINY)
            guess = guess / guess.sum(dim=1, keepdim=True)
        confidence = guess.amax(dim=1)
        mean = kept * self.mean.to(guess.dtype) + (1 - kept) * confidence.mean()
        variance = self.variance.to(guess.dtype)
        if len(confidence) > 1:
            variance = kept * variance + (1 - kept) * confidence.var()
        if self.training and torch.is_grad_enabled():
            self.mean, self.variance = mean.to(self.mean.dtype), variance.to(self.variance.dtype)
            self.predicted = predicted.to(self.predicted.dtype)
        below = (confidence - mean).clamp(max=0)
        weights = (-below.square() * settings.sigmas**2 / (2 * variance.clamp(min=TINY))).exp()
        errors = F.cross_entropy(strong, best, reduction="none") * weights
        return supervised(weak, labels) + settings.weight * errors.mean()
