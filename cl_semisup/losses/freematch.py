from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import TINY, WEAK_TO_STRONG, supervised


@dataclass(frozen=True)
class FreeMatch:
    """FreeMatch: FixMatch with thresholds that follow the confidence, and predictions spread over the classes.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i m_i CE(strong_i, k_i) + e sum_c P_c log Q_c
        m_i = 1[max_c p_ic >= g P~_k / max_c P~_c],   k_i = argmax_c p_ic
        P = norm(P~ / h~),   Q = norm( mean over m_i = 1 of softmax(strong_i) / h )

    Moving averages, with this batch: g of the mean confidence, P~ of the mean prediction, h~ of the shares of the k_i,
    which start at 1 / C. h are the shares of the strong views' predicted classes among m_i = 1; classes with a share of
    0 are left out of Q. norm scales to a sum of 1.

    Group: semi-supervised
    Source: arXiv 2205.07246, equations 5 to 13; microsoft/Semi-supervised-learning@0d8310a4
        semilearn/algorithms/freematch/freematch.py and utils.py
    Difference: as for fixmatch: labelled and unlabelled images come in the same batches, labelled ones get
    pseudo-labels too, and the strong view is the suite's view. Averages start at 1 / C as in the paper (1 in the code)
    Degenerate: without a labelled image the first term is 0; without a confident image the last two are 0.

    Args:
        weight: w, >= 0
        fairness: e, >= 0, weight of the last term; 0.001 to 0.05 in the paper
        memory: share of the old average that stays in a step
    """

    weight: Annotated[float, Ge(0)] = 1.0
    fairness: Annotated[float, Ge(0)] = 0.01
    memory: Share = 0.999

    def build(self, setting: Setting) -> nn.Module:
        return _FreeMatch(self, setting.require("freematch")[1])


class _FreeMatch(nn.Module):
    """`confidence` () is g, `predicted` (C,) is P~, `histogram` (C,) is h~."""

    requirements = Requirements(labels=True, needs=("logits",), views=("weak", "full"), exempt=WEAK_TO_STRONG)
    confidence: Tensor
    predicted: Tensor
    histogram: Tensor

    def __init__(self, settings: FreeMatch, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        self.register_buffer("confidence", torch.tensor(1 / classes))
        self.register_buffer("predicted", torch.full((classes,), 1 / classes))
        self.register_buffer("histogram", torch.full((classes,), 1 / classes))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, logits: Views) -> Tensor:
        weak, strong = (wide(view) for view in logits)  # (N, C)
        guess = weak.detach().softmax(dim=1)
        confidence, best = guess.max(dim=1)
        means = self._averages(guess, confidence, best)
        if self.training and torch.is_grad_enabled():
            self.confidence, self.predicted, self.histogram = (
                new.to(old.dtype)
                for new, old in zip(means, (self.confidence, self.predicted, self.histogram), strict=True)
            )
        level, predicted, histogram = means
        sure = confidence >= (level * predicted / predicted.max())[best]
        errors = F.cross_entropy(strong, best, reduction="none") * sure
        fairness = self._fairness(strong, sure.to(strong.dtype), predicted / histogram.clamp(min=TINY))
        loss = supervised(weak, labels) + self.settings.weight * errors.mean()
        return loss + self.settings.fairness * fairness

    def _averages(self, guess: Tensor, confidence: Tensor, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = self.settings.memory
        counts = best.new_zeros(self.classes).index_add_(0, best, torch.ones_like(best))  # bincount would wait
        shares = counts.to(guess.dtype) / len(best)
        new = confidence.mean(), guess.mean(dim=0), shares
        old = self.confidence, self.predicted, self.histogram
        level, predicted, histogram = (kept * a.to(guess.dtype) + (1 - kept) * b for a, b in zip(old, new, strict=True))
        return level, predicted, histogram

    def _fairness(self, strong: Tensor, sure: Tensor, wanted: Tensor) -> Tensor:
        """sum_c P_c log Q_c over the confident images; 0 without any."""
        p = strong.softmax(dim=1)
        count = sure.sum()
        shares = torch.zeros_like(wanted).index_add_(0, p.detach().argmax(dim=1), sure) / count.clamp(min=1)
        mean = (p * sure[:, None]).sum(dim=0) / count.clamp(min=1)
        spread = torch.where(shares > 0, mean / shares.clamp(min=TINY), torch.zeros_like(mean))
        q = spread / spread.sum().clamp(min=TINY)
        value = (wanted / wanted.sum() * (q + TINY).log()).sum()
        return torch.where(count > 0, value, value.detach() * 0)
