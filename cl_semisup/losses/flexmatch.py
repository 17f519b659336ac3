from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import WEAK_TO_STRONG, supervised


@dataclass(frozen=True)
class FlexMatch:
    """FlexMatch: FixMatch with a threshold for each class, lower for classes that are learnt less.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i 1[max_c p_ic >= T b_k / (2 - b_k)] CE(strong_i, k)
        k = argmax_c p_ic,   b_c = n_c / max(max_c' n_c', n_none)

    n_c counts the training images whose last prediction above T was class c, n_none those without one so far. The
    thresholds of a step are those before it.

    Group: semi-supervised
    Source: arXiv 2110.08263; microsoft/Semi-supervised-learning@36b7d084 semilearn/algorithms/flexmatch/utils.py
    Difference: as for fixmatch: labelled and unlabelled images come in the same batches, labelled ones get
    pseudo-labels too, and the strong view is the suite's view
    Degenerate: without a labelled image the first term is 0; before any confident image all thresholds are 0.

    Args:
        threshold: T, in [0, 1]
        weight: w, >= 0
    """

    threshold: Share = 0.95
    weight: Annotated[float, Ge(0)] = 1.0

    def build(self, setting: Setting) -> nn.Module:
        return _FlexMatch(self, setting)


class _FlexMatch(nn.Module):
    """`selected` (M,) is the class of each training image's last confident prediction, -1 without one."""

    requirements = Requirements(labels=True, needs=("logits", "index"), views=("weak", "full"), exempt=WEAK_TO_STRONG)
    selected: Tensor

    def __init__(self, settings: FlexMatch, setting: Setting):
        super().__init__()
        self.settings = settings
        self.classes = setting.require("flexmatch")[1]
        self.register_buffer("selected", torch.full((setting.memory_size("flexmatch"),), -1))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, logits: Views, index: Tensor) -> Tensor:
        settings = self.settings
        weak, strong = (wide(view) for view in logits)  # (N, C)
        confidence, best = weak.detach().softmax(dim=1).max(dim=1)
        share = self._learnt()[best]
        errors = F.cross_entropy(strong, best, reduction="none")
        errors = errors * (confidence >= settings.threshold * share / (2 - share))
        if self.training and torch.is_grad_enabled():
            sure = confidence >= settings.threshold
            self.selected = self.selected.index_copy(0, index, torch.where(sure, best, self.selected[index]))
        return supervised(weak, labels) + settings.weight * errors.mean()

    def _learnt(self) -> Tensor:
        """(C,) b_c in [0, 1]."""
        ones = torch.ones_like(self.selected)  # bincount would wait for the device
        counts = ones.new_zeros(self.classes + 1).index_add_(0, self.selected + 1, ones).float()
        return counts[1:] / counts.max()
