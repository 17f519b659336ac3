"""What semi-supervised methods share: labels, pseudo-labels (`guess`) and memories.

Shapes: N images, C classes, D embedding, K rows of a memory. Pseudo-labels take no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_semisup.contrast import mean
from cl_semisup.losses._numbers import wide

TINY = 1e-12  # smallest probability whose logarithm is taken
# Exemptions from the contract: of losses with a classifier, and of those whose weak view teaches a strong one.
CLASSIFIER = {"rotation": "the classifier's rows are directions of their own"}
WEAK_TO_STRONG = {**CLASSIFIER, "view_swap": "the weak view teaches the strong one"}


def supervised(logits: Tensor, labels: Tensor | None) -> Tensor:
    """Mean cross-entropy of the labelled rows of logits (N, C); without any, zero with a graph."""
    logits = wide(logits)
    if labels is None:
        return logits.sum() * 0.0
    errors = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    return mean(errors, labels >= 0, logits, logits)


def against(target: Tensor, logits: Tensor) -> Tensor:
    """(N,) cross-entropy of logits (N, C) against probabilities (N, C)."""
    return -(target * wide(logits).log_softmax(dim=1)).sum(dim=1)


def one_hot(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """(N, C) in the number format of `like`; a row of zeros where there is no label."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).to(like.dtype)


def known(labels: Tensor | None, z: Tensor) -> Tensor:
    """(N,) labels, -1 for all if there are none."""
    return torch.full((len(z),), -1, device=z.device) if labels is None else labels


def masked(logits: Tensor, among: Tensor) -> Tensor:
    """Logits whose softmax is 0 where `among` is False; a row without any True stays finite, but has no meaning."""
    return logits.masked_fill(~among, torch.finfo(logits.dtype).min)


class Alignment(nn.Module):
    """Distribution alignment to uniform classes: guesses are divided by their recent mean and normalised again.

    `means` (length, C) holds the mean guesses of the last batches; rows without a batch yet are zero.
    """

    means: Tensor
    at: Tensor

    def __init__(self, length: int, classes: int):
        super().__init__()
        self.register_buffer("means", torch.zeros(length, classes))
        self.register_buffer("at", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def forward(self, guess: Tensor, learn: bool) -> Tensor:
        """(N, C) probabilities -> (N, C) probabilities; with `learn` this batch first enters the mean."""
        if learn:
            self.means[self.at] = guess.mean(dim=0).to(self.means.dtype)
            self.at.add_(1).remainder_(len(self.means))
        ratio = guess.clamp(min=TINY) / self.means.mean(dim=0).clamp(min=TINY)
        return (ratio / ratio.sum(dim=1, keepdim=True)).to(guess.dtype)


class Ring(nn.Module):
    """A ring buffer of the last K rows of several named tensors."""

    at: Tensor

    def __init__(self, size: int, **columns: Tensor):
        """`columns`: name -> the value of an empty row."""
        super().__init__()
        self.size = size
        self.register_buffer("at", torch.zeros((), dtype=torch.long))
        for name, empty in columns.items():
            self.register_buffer(name, empty.expand(size, *empty.shape).clone())

    @torch.no_grad()
    def store(self, **rows: Tensor) -> None:
        """Overwrite the oldest rows; of more than K rows only the last K are stored."""
        count = min(self.size, len(next(iter(rows.values()))))
        positions = (self.at + torch.arange(count, device=self.at.device)) % self.size
        for name, row in rows.items():
            column = self.get_buffer(name)
            column[positions] = row[-count:].to(column.dtype)
        self.at.add_(count).remainder_(self.size)
