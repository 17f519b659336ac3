from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor
from torch.nn.functional import cross_entropy

from cl_semisup.contrast import both, identities, logsumexp, mean, nothing, others, same
from cl_semisup.losses import Requirements, Views
from cl_semisup.losses._numbers import log_one_plus_exp, wide
from cl_semisup.losses._pseudo_labels import CLASSIFIER


@dataclass(frozen=True)
class FedRCL:
    """FedRCL's relaxed contrastive loss on one machine: supervised contrast that keeps classes from collapsing.

        L = w CE + S + beta R        over labelled images, rows a of both views
        S = mean_a mean_{b in P(a)} -log( e^{s_ab/t} / (e^{s_ab/t} + sum_{c: y_c != y_a} e^{s_ac/t}) )
        R = mean_a log( 1 + sum_{b in P(a), s_ab > lam} e^{(s_ab - 1)/t} )

    P(a): the other rows of a's class. R pushes apart pairs of a class that are already closer than lam. `pairs: all` is
    this form, the paper's. `pairs: hardest`, the code's, uses only the farthest b of P(a) in S and R, and the two
    closest c. Batches are drawn from the labelled images only.

    Group: further
    Source: arXiv 2401.04928; skynbe/FedRCL utils/loss.py (CLLoss), configs/client/fedrcl.yaml
    Difference: no federation, and one level, the projections (there: every block of the network); a row is never its
    own positive; in the code's form a farthest pair below lam costs 0 (there: as much as similarity -1, a constant)
    Degenerate: without another class S is 0; without a labelled image all is 0 with a graph. R jumps at lam.

    Args:
        temperature: t, > 0
        threshold: lam, a cosine in [-1, 1]
        penalty: beta, >= 0
        pairs: which pairs take part
        classifier: w, weight of the cross-entropy of a linear classifier on the features, >= 0
    """

    temperature: Annotated[float, Gt(0)] = 0.05
    threshold: Annotated[float, Interval(ge=-1, le=1)] = 0.7
    penalty: Annotated[float, Ge(0)] = 1.0
    pairs: Literal["all", "hardest"] = "all"
    classifier: Annotated[float, Ge(0)] = 1.0

    @property
    def requirements(self) -> Requirements:
        if not self.classifier:
            return Requirements(labels=True, trains_on="labelled")
        return Requirements(labels=True, needs=("logits",), trains_on="labelled", exempt=CLASSIFIER)

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, logits: Views | None = None) -> Tensor:
        if labels is None:
            return nothing(z1, z2)
        z = both(z1, z2)  # (2N, D)
        similarity = z @ z.T  # (2N, 2N)
        labelled = (labels >= 0).repeat(2)
        known = labelled[:, None] & labelled
        alike = same(identities(labels, len(z1), z.device).repeat(2))
        positive, negative = alike & known & others(len(z), z.device), ~alike & known
        per_anchor = self._of_all if self.pairs == "all" else self._of_hardest
        loss = mean(per_anchor(similarity, positive, negative), labelled, z1, z2)
        if logits is not None:
            loss = loss + self.classifier * self._classification(logits[:2], labels, z1, z2)
        return loss

    def _of_all(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        t = self.temperature
        against = logsumexp(similarity / t, negative)[:, None]  # (2N, 1); -inf without a negative, where the term is 0
        contrast = torch.where(positive, log_one_plus_exp(against - similarity / t), 0).sum(dim=1)
        contrast = contrast / positive.sum(dim=1).clamp(min=1)
        close = logsumexp((similarity - 1) / t, positive & (similarity > self.threshold))
        return contrast + self.penalty * log_one_plus_exp(close)

    def _of_hardest(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        t = self.temperature
        farthest = similarity.masked_fill(~positive, 2).amin(dim=1)  # (2N,)
        closest = similarity.masked_fill(~negative, -2).topk(min(2, len(similarity)), dim=1).values  # (2N, 2)
        contrast = log_one_plus_exp(logsumexp(closest / t, closest > -1.5) - farthest / t)
        penalty = torch.where(farthest > self.threshold, log_one_plus_exp((farthest - 1) / t), 0)
        return contrast + self.penalty * penalty

    def _classification(self, logits: Views, labels: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
        target = labels.clamp(min=0)
        per_image = sum(cross_entropy(wide(view), target, reduction="none") for view in logits) / len(logits)
        return mean(torch.as_tensor(per_image), labels >= 0, z1, z2)
