from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup.contrast import nothing, unit
from cl_semisup.losses import Requirements, Setting, Views
from cl_semisup.losses._pseudo_labels import TINY, one_hot

SMALLEST_TARGET = 1e-4  # smaller targets become 0


@dataclass(frozen=True)
class PAWS:
    """PAWS: both views get the same class probabilities, by similarity to a small support of labelled images.

        p(z) = softmax_s(u.s / t) Y            over the support s, Y its smoothed one-hot labels
        L = 1/2 mean_i [ H(q(z2_i), p(z1_i)) + H(q(z1_i), p(z2_i)) ] - w H(mean of all q)
        q(z)_c = p_c^(1/T) / sum_c' p_c'^(1/T), without a gradient as a target

    H(a, b) = -sum_c a_c log b_c. The last term spreads the predictions over the classes. The support is drawn anew for
    every step, the same number of images a class, and has a gradient too. The batch's own labels are not used. With k
    local views (the view `multi_crop`) each of them has the target (q(z1) + q(z2)) / 2, the factor is 1 / (2 + k), and
    the last term is over all views.

    Group: semi-supervised
    Source: arXiv 2104.13963; facebookresearch/suncet src/losses.py
    Difference: small crops only if the suite's views make them; the batch holds labelled images too
    Degenerate: without any support it is 0 with a graph. A class without support keeps the smoothing's share.

    Args:
        temperature: t, > 0
        sharpening: T, > 0; 1 leaves the targets as they are
        support_per_class: labelled images a class and step, with repeats if need be; 64 (CIFAR-10) or 7 there
        label_smoothing: share of each support label spread over all classes, in [0, 1)
        spread_weight: w, >= 0 (me-max)
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    sharpening: Annotated[float, Gt(0)] = 0.25
    support_per_class: Annotated[int, Interval(ge=1, le=1024)] = 8
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    spread_weight: Annotated[float, Ge(0)] = 1.0

    def build(self, setting: Setting) -> nn.Module:
        _, classes = setting.require("paws")
        return _Paws(self, classes)


class _Paws(nn.Module):
    def __init__(self, settings: PAWS, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        batch_labels = "labels act through the support, not through the batch"
        self.requirements = Requirements(
            labels=True,
            needs=("local_projections", "support"),
            support=settings.support_per_class,
            exempt={
                "labels": batch_labels,
                "unlabelled": batch_labels,
                "rotation": "the support stays where it is when the batch is turned",
                "gradient": "the targets take no gradient",
            },
        )

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        support: tuple[Tensor, Tensor],
        local_projections: Views = (),
    ) -> Tensor:
        rows, classes = support  # (S, D), (S,)
        if len(rows) == 0:
            return nothing(z1, z2)
        keys, smooth = unit(rows), self.settings.label_smoothing
        member = (1 - smooth) * one_hot(classes, self.classes, keys) + smooth / self.classes  # (S, C)
        logs = [self._log_guess(unit(z), keys, member) for z in (z1, z2, *local_projections)]  # (N, C)
        sharp = [(log / self.settings.sharpening).softmax(dim=1) for log in logs]
        of_local = (sharp[0] + sharp[1]) / 2
        targets = [torch.where(q < SMALLEST_TARGET, 0.0, q.detach()) for q in (sharp[0], sharp[1], of_local)]
        terms = targets[1] * logs[0] + targets[0] * logs[1]
        for log in logs[2:]:
            terms = terms + targets[2] * log
        agreement = -terms.sum(dim=1).mean() / len(logs)
        average = torch.cat(sharp).mean(dim=0)
        entropy = -(average * average.clamp(min=TINY).log()).sum()
        return agreement - self.settings.spread_weight * entropy

    def _log_guess(self, rows: Tensor, keys: Tensor, member: Tensor) -> Tensor:
        guess = (rows @ keys.T / self.settings.temperature).softmax(dim=1) @ member
        return guess.clamp(min=TINY).log()
