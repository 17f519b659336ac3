from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import (
    WEAK_TO_STRONG,
    Alignment,
    Ring,
    against,
    known,
    masked,
    one_hot,
    supervised,
)


@dataclass(frozen=True)
class CoMatch:
    """CoMatch: pseudo-labels smoothed over a memory teach the classifier, and a graph of them teaches the embedding.

        L = mean over labelled i of CE(weak_i, y_i) + w mean_i 1[max_c p'_ic >= T] H(p'_i, softmax(strong_i))
            + v mean_i -sum_j W_ij log softmax_j(u_i.v_j / t)
        p'_i = a p_i + (1 - a) sum_k softmax_k(x_i.m_k / t) p_k
        W_ij prop. to p'_i.p'_j where that is >= g, W_ii prop. to 1, rows normalised

    x, u, v: unit projections of the weak view and of two strong ones; p: the classifier's probabilities of the weak
    view, divided by their mean over the last batches and normalised; the memory holds (x, p) of the last images, with
    the one-hot label for p where it is known. p, p', W and the memory take no gradient.

    Group: semi-supervised
    Source: arXiv 2011.11183; salesforce/CoMatch Train_CoMatch.py
    Difference: labelled and unlabelled images come in the same batches and labelled ones get pseudo-labels too; the
    memory is used as soon as it holds anything (there once it is full); log-softmax instead of log(softmax + 1e-7); no
    averaged weights are evaluated
    Degenerate: with an empty memory p' = p. One image has only itself in the graph: that term is 0.

    Args:
        threshold: T, in [0, 1]
        weight: w, >= 0
        graph_weight: v, >= 0
        graph_threshold: g, in [0, 1]
        temperature: t, > 0
        smoothing: a, in [0, 1]; 1 leaves the memory out
        memory: images that the memory holds; 5 batches of 512 there
        alignment: batches whose mean guess is divided out
    """

    threshold: Share = 0.95
    weight: Annotated[float, Ge(0)] = 1.0
    graph_weight: Annotated[float, Ge(0)] = 1.0
    graph_threshold: Share = 0.8
    temperature: Annotated[float, Gt(0)] = 0.2
    smoothing: Share = 0.9
    memory: Annotated[int, Interval(ge=1, le=1048576)] = 2560
    alignment: Annotated[int, Interval(ge=1, le=65536)] = 32

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("comatch")
        return _CoMatch(self, dim, classes)


class _CoMatch(nn.Module):
    """`memory` holds unit rows and probabilities, which are all zero in an empty place."""

    def __init__(self, settings: CoMatch, dim: int, classes: int):
        super().__init__()
        self.settings, self.classes = settings, classes
        self.alignment = Alignment(settings.alignment, classes)
        self.memory = Ring(settings.memory, rows=torch.zeros(dim), guesses=torch.zeros(classes))
        self.requirements = Requirements(
            labels=True,
            needs=("logits", "projections"),
            views=("weak", "full", "full"),
            exempt={**WEAK_TO_STRONG, "gradient": "the graph of guesses takes no gradient"},
        )

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, logits: Views, projections: Views
    ) -> Tensor:
        settings, learn = self.settings, self.training and torch.is_grad_enabled()
        weak, strong, other = (unit(z) for z in projections)  # (N, D)
        with torch.no_grad():
            own = self.alignment(wide(logits[0]).softmax(dim=1), learn)  # (N, C)
            guess = self._smoothed(own, weak)
            if learn:
                labels = known(labels, z1)
                truth = one_hot(labels, self.classes, own)
                self.memory.store(rows=weak, guesses=torch.where(labels[:, None] >= 0, truth, own))
            graph = self._graph(guess)  # (N, N)
        contrast = against(graph, strong @ other.T / settings.temperature)
        errors = against(guess, logits[1]) * (guess.amax(dim=1) >= settings.threshold)
        return supervised(logits[0], labels) + settings.weight * errors.mean() + settings.graph_weight * contrast.mean()

    def _smoothed(self, own: Tensor, rows: Tensor) -> Tensor:
        """Each guess mixed with the guesses of similar rows of the memory."""
        guesses = self.memory.get_buffer("guesses").to(own.dtype)
        full = guesses.sum(dim=1) > 0  # (K,)
        similarity = rows @ self.memory.get_buffer("rows").to(rows.dtype).T / self.settings.temperature  # (N, K)
        remembered = masked(similarity, full.expand_as(similarity)).softmax(dim=1).to(own.dtype) @ guesses
        smoothing = self.settings.smoothing
        return torch.where(full.any(), smoothing * own + (1 - smoothing) * remembered, own)

    def _graph(self, guess: Tensor) -> Tensor:
        similarity = (guess @ guess.T).fill_diagonal_(1.0)
        graph = torch.where(similarity >= self.settings.graph_threshold, similarity, 0.0)
        return graph / graph.sum(dim=1, keepdim=True)
