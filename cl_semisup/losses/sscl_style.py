from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import WEAK_TO_STRONG, Ring, known, one_hot, supervised

EMPTY, UNSURE = -2, -1  # class of an empty place of the memory, and of a row without a (pseudo-)class


@dataclass(frozen=True)
class SsCLStyle:
    """SsCL-style similarity co-calibration, a reconstruction: classifier and contrastive branch correct each other.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i 1[max_c p'_ic >= T] CE(strong_i, argmax_c p'_ic)
            + v mean_i 1/|P_i| sum_{k in P_i} [ log sum_m exp(u_i.m / t) - u_i.m_k / t ]
        p'_ic prop. to p_ic exp( mean over labelled m_k of class c of k_i.m_k / t_q )

    p = softmax(weak); k_i: the momentum copy's unit projection of the weak view; u_i: that of the network on the
    strong one; m: the batch's k_i and a memory of earlier ones. P_i: the own key and the K most similar others of the
    same class, which is the label where there is one, else argmax p' where the maximum is >= T, else none.

    Group: reproductions
    Source: arXiv 2105.07387, rebuilt from its abstract and the ingredients named there; no code was found, and the
    paper's own equations were not available: results are not the paper's
    Difference: unknown beyond the ingredients; labelled and unlabelled images come in the same batches
    Degenerate: a class without a labelled key takes the mean over those that have one (without any, p' = p). Alone and
    with an empty memory, an image's contrastive term is 0.

    Args:
        threshold: T, in [0, 1]
        weight: w, >= 0
        contrast_weight: v, >= 0
        temperature: t, > 0
        similarity_temperature: t_q, > 0
        neighbours: K, >= 0
        memory: keys that the memory holds
        momentum: decay of the momentum copy at the first step
        last_momentum: decay of the momentum copy at the last step
    """

    threshold: Share = 0.95
    weight: Annotated[float, Ge(0)] = 1.0
    contrast_weight: Annotated[float, Ge(0)] = 1.0
    temperature: Annotated[float, Gt(0)] = 0.2
    similarity_temperature: Annotated[float, Gt(0)] = 0.2
    neighbours: Annotated[int, Interval(ge=0, le=1024)] = 10
    memory: Annotated[int, Interval(ge=1, le=1048576)] = 4096
    momentum: Share = 0.99
    last_momentum: Share = 0.999

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("sscl_style")
        return _SsCLStyle(self, dim, classes)


class _SsCLStyle(nn.Module):
    """`memory` holds keys, their classes (EMPTY, UNSURE or a class) and whether the class is a label."""

    def __init__(self, settings: SsCLStyle, dim: int, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        no, empty = torch.tensor(False), torch.tensor(EMPTY)
        self.memory = Ring(settings.memory, keys=torch.zeros(dim), classes=empty, labelled=no)
        self.requirements = Requirements(
            labels=True,
            needs=("logits", "momentum_projections"),
            views=("weak", "full"),
            momentum=(settings.momentum, settings.last_momentum),
            exempt=WEAK_TO_STRONG,
        )

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, logits: Views, momentum_projections: Views
    ) -> Tensor:
        settings = self.settings
        weak, strong = wide(logits[0]), wide(logits[1])  # (N, C)
        labels = known(labels, z1)
        with torch.no_grad():
            own = unit(momentum_projections[0])  # (N, D)
            keys = torch.cat([own, self.memory.get_buffer("keys").to(own.dtype)])  # (K, D)
            labelled = torch.cat([labels >= 0, self.memory.get_buffer("labelled")])  # (K,)
            key_classes = torch.cat([labels, self.memory.get_buffer("classes")])
            similarity = self._class_similarity(own, keys, torch.where(labelled, key_classes, EMPTY))
            confidence, best = (weak.log_softmax(dim=1) + similarity).softmax(dim=1).max(dim=1)
            confident = confidence >= settings.threshold
            classes = torch.where(labels >= 0, labels, torch.where(confident, best, UNSURE))  # (N,)
            all_classes = torch.cat([classes, self.memory.get_buffer("classes")])  # (K,)
            positive = self._positive(own, keys, classes, all_classes)
        similar = unit(z2) @ keys.T / settings.temperature  # (N, K)
        total = similar.masked_fill(all_classes == EMPTY, -torch.inf).logsumexp(dim=1)
        contrast = total - torch.where(positive, similar, 0.0).sum(dim=1) / positive.sum(dim=1)
        errors = F.cross_entropy(strong, best, reduction="none") * confident
        if self.training and torch.is_grad_enabled():
            self.memory.store(keys=own, classes=classes, labelled=labels >= 0)
        return supervised(weak, labels) + settings.weight * errors.mean() + settings.contrast_weight * contrast.mean()

    def _class_similarity(self, rows: Tensor, keys: Tensor, classes: Tensor) -> Tensor:
        """(N, C) mean similarity to the labelled keys of each class."""
        member = one_hot(classes, self.classes, keys)  # (K, C)
        count = member.sum(dim=0)
        means = rows @ (keys.T @ member) / count.clamp(min=1)
        some = count > 0
        rest = means.sum(dim=1, keepdim=True) / some.sum().clamp(min=1)  # absent classes add nothing to the sum
        return torch.where(some, means, rest) / self.settings.similarity_temperature

    def _positive(self, own: Tensor, keys: Tensor, classes: Tensor, all_classes: Tensor) -> Tensor:
        """(N, K) bool: the own key, and the nearest others of the same class."""
        count = len(own)
        mine = torch.eye(count, len(keys), dtype=torch.bool, device=own.device)
        alike = (classes[:, None] == all_classes) & (classes[:, None] >= 0) & ~mine
        near = (own @ keys.T).masked_fill(~alike, -torch.inf)
        nearest = near.topk(min(self.settings.neighbours, len(keys)), dim=1).indices
        return mine | (torch.zeros_like(alike).scatter(1, nearest, True) & alike)
