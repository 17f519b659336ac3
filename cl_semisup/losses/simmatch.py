from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup.contrast import mean, unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import (
    TINY,
    WEAK_TO_STRONG,
    Alignment,
    against,
    known,
    masked,
    one_hot,
    supervised,
)


@dataclass(frozen=True)
class SimMatch:
    """SimMatch: a strong view agrees with a weak one on the class and on the similarity to labelled images.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i 1[max_c p'_ic >= T] H(p'_i, softmax(strong_i))
            + v mean_i H(r'_i, softmax_k(z2_i.m_k / t_s))
        r_ik = softmax_k(k_i.m_k / t_t),  r'_ik prop. to r_ik p_{i,y_k},  p'_ic = a p_ic + (1 - a) sum_{k: y_k = c} r_ik

    p: the momentum copy's class probabilities of the weak view, divided by their mean over the last batches and
    normalised; k_i: its unit projection of the weak view; m_k: the last such projection of every labelled image k so
    far.

    Group: semi-supervised
    Source: arXiv 2203.06915; KyleZheng1997/simmatch models/simmatch.py
    Difference: labelled and unlabelled images come in the same batches and labelled ones get pseudo-labels too; an
    image is not compared with its own entry; the batch's labelled images enter the memory before it is used (there the
    first epoch only fills it); the decay follows half a cosine
    Degenerate: without a labelled image so far only the second term is left, with p' = p.

    Args:
        threshold: T, in [0, 1]; 0.95 on CIFAR, 0.7 on ImageNet there
        weight: w, >= 0; 10 on ImageNet there
        instance_weight: v, >= 0; 1 or 5 there
        temperature: t_s, > 0, of the strong view
        teacher_temperature: t_t, > 0, of the weak view
        smoothing: a, in [0, 1]; 1 takes the class from the classifier alone
        alignment: batches whose mean guess is divided out
        momentum: decay of the momentum copy at the first step
        last_momentum: decay of the momentum copy at the last step
    """

    threshold: Share = 0.95
    weight: Annotated[float, Ge(0)] = 1.0
    instance_weight: Annotated[float, Ge(0)] = 1.0
    temperature: Annotated[float, Gt(0)] = 0.1
    teacher_temperature: Annotated[float, Gt(0)] = 0.1
    smoothing: Share = 0.9
    alignment: Annotated[int, Interval(ge=1, le=65536)] = 256
    momentum: Share = 0.99
    last_momentum: Share = 0.999

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("simmatch")
        return _SimMatch(self, dim, classes, setting.memory_size("simmatch"))


class _SimMatch(nn.Module):
    """`bank` (M, D) and `bank_labels` (M,) have a row for every training image; only labelled ones are ever filled."""

    bank: Tensor
    bank_labels: Tensor

    def __init__(self, settings: SimMatch, dim: int, classes: int, images: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        self.alignment = Alignment(settings.alignment, classes)
        self.register_buffer("bank", torch.zeros(images, dim))
        self.register_buffer("bank_labels", torch.full((images,), -1))
        self.requirements = Requirements(
            labels=True,
            needs=("logits", "index", "momentum_logits", "momentum_projections"),
            views=("weak", "full"),
            momentum=(settings.momentum, settings.last_momentum),
            exempt=WEAK_TO_STRONG,
        )

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        logits: Views,
        index: Tensor,
        momentum_logits: Views,
        momentum_projections: Views,
    ) -> Tensor:
        settings, learn = self.settings, self.training and torch.is_grad_enabled()
        key = unit(momentum_projections[0].detach())  # (N, D)
        if learn:
            self._remember(key, known(labels, z1), index)
        guess = self.alignment(wide(momentum_logits[0]).detach().softmax(dim=1), learn)  # (N, C)

        bank, classes = self.bank.to(key.dtype), self.bank_labels
        among = (classes >= 0) & (torch.arange(len(classes), device=classes.device) != index[:, None])  # (N, M)
        some = among.any(dim=1)
        similarity = key @ bank.T / settings.teacher_temperature
        by_memory = masked(similarity, among).softmax(dim=1) @ one_hot(classes, self.classes, similarity)  # (N, C)
        smoothed = settings.smoothing * guess + (1 - settings.smoothing) * by_memory
        target = torch.where(some[:, None], smoothed, guess)

        calibrated = masked(similarity + guess.clamp(min=TINY).log()[:, classes.clamp(min=0)], among).softmax(dim=1)
        log_probabilities = masked(unit(z2) @ bank.T / settings.temperature, among).log_softmax(dim=1)  # (N, M)
        instances = -(calibrated * log_probabilities.masked_fill(~among, 0.0)).sum(dim=1)

        errors = against(target, logits[1]) * (target.amax(dim=1) >= settings.threshold)
        classification = supervised(logits[0], labels) + settings.weight * errors.mean()
        return classification + settings.instance_weight * mean(instances, some, z1, z2)

    @torch.no_grad()
    def _remember(self, key: Tensor, labels: Tensor, index: Tensor) -> None:
        labelled = labels >= 0
        self.bank[index] = torch.where(labelled[:, None], key.to(self.bank.dtype), self.bank[index])
        self.bank_labels[index] = torch.where(labelled, labels, self.bank_labels[index])
