from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_semisup.contrast import both, logsumexp, mean, nothing, unit
from cl_semisup.losses import Requirements, Setting, Views
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._pseudo_labels import CLASSIFIER

BOUND = 5.0  # of the log variances, so that a term that reaches 0 does not get all the weight


@dataclass(frozen=True)
class BLCL:
    """BLCL, a reconstruction: cross-entropy and prototype contrast, balanced by weights learned as uncertainties.

        L = e^{-s1} CE + e^{-s2} K + (s1 + s2) / 2            s_k = 5 tanh(x_k / 5), x_k learned scalars from 0
        K = mean over labelled i and both views of  -log( e^{u.m_y/t} / sum_{c seen} e^{u.m_c/t} ),   u unit rows
        m_c = prototype of class c, scaled to length 1: decay * stored_c + (1 - decay) * mean of the batch's rows of c

    CE is that of a linear classifier on the features. The prototypes carry the gradient of the batch's means. A class
    without an image in the batch keeps its stored prototype; a class never seen has none. Batches are drawn from the
    labelled images.

    Group: reproductions
    Source: arXiv 2405.11067, its structure: two terms, prototypes and learned weights (sigma^2 = e^s, as in arXiv
    1705.07115); its code is not public where we could read it, so temperature, decay and bounds are our choice
    Difference: for a fixed set of classes, without the class-increments, exemplars and growing network of the paper
    Degenerate: without a labelled image it is 0 with a graph, the learned weights' own term included.

    Args:
        temperature: t, > 0
        decay: share of the stored prototype that is kept in a step, in [0, 1)
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    decay: Annotated[float, Interval(ge=0, lt=1)] = 0.9

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("blcl")
        return _Balanced(self, dim, classes)


class _Balanced(nn.Module):
    """The loss with its state: `prototypes` (C, D), which classes were `seen` (C,), and `uncertainties` x (2,)."""

    requirements = Requirements(labels=True, needs=("logits",), trains_on="labelled", exempt=CLASSIFIER)
    prototypes: Tensor
    seen: Tensor

    def __init__(self, settings: BLCL, dim: int, classes: int):
        super().__init__()
        self.temperature, self.decay = settings.temperature, settings.decay
        self.uncertainties = nn.Parameter(torch.zeros(2))
        self.register_buffer("prototypes", torch.zeros(classes, dim))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, logits: Views | None = None) -> Tensor:
        """`logits`: (N, C) outputs of the classifier, one a view; without them z1 and z2 are the logits."""
        if labels is None:
            return nothing(z1, z2)
        labelled, target = labels >= 0, labels.clamp(min=0)
        contrast = self._contrast(both(z1, z2), labels.repeat(2))  # (2N,)
        outputs = (wide(view) for view in (logits or (z1, z2))[:2])
        classification = torch.stack([cross_entropy(view, target, reduction="none") for view in outputs]).mean(dim=0)
        terms = torch.stack([mean(classification, labelled, z1, z2), mean(contrast, labelled.repeat(2), z1, z2)])
        log_variances = BOUND * (self.uncertainties / BOUND).tanh()
        return ((-log_variances).exp() * terms + log_variances / 2 * labelled.any()).sum()

    def _contrast(self, z: Tensor, labels: Tensor) -> Tensor:
        """(2N,) cross-entropy of each row among the prototypes; without meaning for rows without a label."""
        members = (labels[:, None] == torch.arange(len(self.seen), device=z.device)).to(z.dtype)  # (2N, C)
        count = members.sum(dim=0)[:, None]
        present = count > 0
        average = members.T @ z / count.clamp(min=1)  # (C, D)
        stored = self.prototypes.to(z.dtype)
        updated = torch.where(self.seen[:, None], self.decay * stored + (1 - self.decay) * average, average)
        current = torch.where(present, updated, stored)
        seen = self.seen | present.squeeze(1)
        if self.training and torch.is_grad_enabled():
            self.prototypes = current.detach().to(self.prototypes.dtype)
            self.seen = seen
        logits = z @ unit(current).T / self.temperature  # (2N, C)
        target = labels.clamp(min=0)[:, None]
        return logsumexp(logits, seen.expand(len(z), -1)) - logits.gather(1, target).squeeze(1)
