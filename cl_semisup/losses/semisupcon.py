from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import logsumexp, others, same, unit
from cl_semisup.contrast.prototypes import random_unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._pseudo_labels import WEAK_TO_STRONG, known


@dataclass(frozen=True)
class SemiSupCon:
    """SemiSupCon: one supervised contrastive loss over prototypes, labelled, confident and unconfident images.

        L = 1/A sum_a w_a [ lse_{c != a} s_ac / t - mean_{b in P(a)} s_ab / t ]

    Rows a: C trained prototypes, of the classes 0 ... C-1; the weak view of every labelled image, of its class; two
    strong views of every image, of the class argmax_c q_ic if max_c q_ic >= T, else of a class of its own. Here
    q_i = softmax_c(x_i.a_c / t'), x the weak view and a the prototypes, takes no gradient. P(a): the other rows of the
    same class. A: the rows with any; a row without has no term. w_a is `prototype_weight`, 1, `confident_weight` or
    `unconfident_weight`. So FixMatch's two cross-entropies and SimCLR are terms of one sum.

    Group: semi-supervised
    Source: arXiv 2409.07292; AurelienGauffre/semisupcon, the step of `semisupconproto` with the loss SemiSupConLoss
    Difference: reconstructed in part: the step was read, and not its class SupConLossWeights; that w weighs the terms
    of anchors is what a comment of the step says, that A counts rows and not weights is taken from its loss without
    weights. There t' is twice a setting `pl_temp`, whose value was not found, and prototypes may pass the projector.
    As for fixmatch, labelled and unlabelled images come in the same batches and labelled ones get pseudo-labels too
    Degenerate: without a labelled image prototypes of confident classes and strong views remain.

    Args:
        temperature: t, > 0
        threshold: T, in [0, 1]
        guess_temperature: t', > 0
        prototype_weight: of prototypes as anchors, >= 0; 0 leaves them keys
        confident_weight: of strong views with a pseudo-label, >= 0
        unconfident_weight: of strong views without, >= 0
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    threshold: Share = 0.95
    guess_temperature: Annotated[float, Gt(0)] = 0.1
    prototype_weight: Annotated[float, Ge(0)] = 1.0
    confident_weight: Annotated[float, Ge(0)] = 1.0
    unconfident_weight: Annotated[float, Ge(0)] = 1.0

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("semisupcon")
        return _SemiSupCon(self, random_unit(classes, dim, setting.generator()))


class _SemiSupCon(nn.Module):
    """`prototypes` (C, D) are trained with the network, and used at length 1."""

    requirements = Requirements(
        labels=True, needs=("projections",), views=("weak", "full", "full"), exempt=WEAK_TO_STRONG
    )

    def __init__(self, settings: SemiSupCon, prototypes: Tensor):
        super().__init__()
        self.settings, self.prototypes = settings, nn.Parameter(prototypes)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, *, projections: Views) -> Tensor:
        settings, count, classes = self.settings, len(z1), len(self.prototypes)
        weak, first, second = (unit(view) for view in projections)  # (N, D) each
        prototypes = unit(self.prototypes).to(weak.dtype)
        confident, best = self._guess(weak, prototypes)
        truth = known(labels, z1)
        of_class = torch.arange(classes, device=z1.device)
        alone = classes + torch.arange(count, device=z1.device)  # a class of its own
        strong = torch.where(confident, best, alone)
        rows = torch.cat([prototypes, weak, first, second])  # (C + 3N, D)
        ids = torch.cat([of_class, truth, strong, strong])
        there = torch.cat([truth.new_ones(classes), truth >= 0, truth.new_ones(2 * count)]).bool()
        sure = confident.to(rows.dtype)
        weights = sure * settings.confident_weight + (1 - sure) * settings.unconfident_weight
        ones = rows.new_ones(count)
        weights = torch.cat([settings.prototype_weight * rows.new_ones(classes), ones, weights, weights])

        logits = rows @ rows.T / settings.temperature
        among = others(len(rows), z1.device) & there[:, None] & there
        positive = same(ids) & among
        partners = positive.sum(dim=1)
        pull = torch.where(positive, logits, 0.0).sum(dim=1) / partners.clamp(min=1)
        anchors = torch.where(partners > 0, logsumexp(logits, among) - pull, 0.0)
        return (weights * anchors).sum() / (partners > 0).sum()

    @torch.no_grad()
    def _guess(self, weak: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) bool: is the weak view sure of its class? (N,) that class."""
        guess = (weak @ prototypes.T / self.settings.guess_temperature).softmax(dim=1)  # (N, C)
        confidence, best = guess.max(dim=1)
        return confidence >= self.settings.threshold, best
