from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import both, identities, logsumexp, others, partners, same, unit
from cl_semisup.losses import Requirements, Setting, Share, Views


@dataclass(frozen=True)
class DSCL:
    """Decoupled supervised contrastive loss for long-tailed data: own view and classmates have fixed shares.

        L = mean_a  lse_{c != a} s_ac/t - [ s_{a,p(a)}/t + beta mean_{b in O(a)} s_ab/t ] / (1 + beta)

    O(a): the classmates' rows; without any, s_{a,p(a)}/t alone is subtracted. In SupCon the share of the own view p(a)
    falls with the number of classmates, so head and tail classes have different objectives; here it is 1/(1+beta) for
    both. An unlabelled image has no classmates. With a queue, keys of the momentum encoder from earlier
    steps, with their labels, are further rows c and classmates b.

    Group: further
    Source: arXiv 2403.06151; SY-Xuan/DSCL dscl/DSCL.py (DSCLLoss)
    Difference: both views are anchors and carry gradients, queue or not (there: one view against momentum keys); the
    queue starts empty, not with random rows of random labels; the momentum goes to 1 along a cosine (constant there).
    The paper's second part, patch-based self-distillation (PBSD), is left out: this is its first term alone
    Degenerate: one image gives 0 without a queue; one class stays finite.

    Args:
        temperature: t, > 0
        beta: weight of the classmates against the own view, >= 0; 8 on the code's command line
        queue: keys remembered, >= 0; 0 contrasts within the batch alone
        momentum: decay of the momentum encoder at the first step, cosine to 1; without a queue there is none
    """

    temperature: Annotated[float, Gt(0)] = 0.07
    beta: Annotated[float, Ge(0)] = 8.0
    queue: Annotated[int, Ge(0)] = 0
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        dim = setting.width("dscl") if self.queue else 0
        return _DSCL(self, dim)


class _DSCL(nn.Module):
    """The loss with its queue: `keys` (Q, D), their labels `key_labels` (Q,), and the `count` of keys ever stored."""

    keys: Tensor
    key_labels: Tensor
    count: Tensor

    def __init__(self, settings: DSCL, dim: int):
        super().__init__()
        self.temperature, self.share = settings.temperature, 1 / (1 + settings.beta)
        needs = ("momentum_projections",) if settings.queue else ()
        self.requirements = Requirements(labels=True, needs=needs, momentum=(settings.momentum, 1.0))
        self.register_buffer("keys", torch.zeros(settings.queue, dim))
        self.register_buffer("key_labels", torch.full((settings.queue,), -1))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, momentum_projections: Views | None = None
    ) -> Tensor:
        z = both(z1, z2)  # (2N, D)
        similarity = z @ z.T / self.temperature  # (2N, 2N)
        ids = identities(labels, len(z1), z.device).repeat(2)
        images = torch.arange(len(z1), device=z.device).repeat(2)
        classmates = same(ids) & ~same(images)  # O(a), (2N, 2N)
        logits, among = similarity, others(len(z), z.device)
        if len(self.keys):
            filled = torch.arange(len(self.keys), device=z.device) < self.count
            remembered = filled.expand(len(z), -1)  # (2N, Q)
            logits = torch.cat([logits, z @ self.keys.to(z.dtype).T / self.temperature], dim=1)
            among = torch.cat([among, remembered], dim=1)
            known = (ids[:, None] == self.key_labels) & (self.key_labels >= 0)
            classmates = torch.cat([classmates, known & remembered], dim=1)
        own = partners(similarity)
        count = classmates.sum(dim=1)
        mean = torch.where(classmates, logits, 0).sum(dim=1) / count.clamp(min=1)
        attraction = torch.where(count > 0, self.share * own + (1 - self.share) * mean, own)
        loss = (logsumexp(logits, among) - attraction).mean()
        if momentum_projections is not None and self.training and torch.is_grad_enabled():
            self._remember(momentum_projections[1], labels)
        return loss

    @torch.no_grad()
    def _remember(self, projections: Tensor, labels: Tensor | None) -> None:
        """Store the key of every image's second view in place of the oldest keys."""
        keys = unit(projections)[-len(self.keys) :].to(self.keys.dtype)
        if labels is None:
            labels = torch.full((len(projections),), -1, device=projections.device)
        positions = (self.count + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        # New tensors: the graph of this step still needs the old keys.
        self.keys = self.keys.index_copy(0, positions, keys)
        self.key_labels = self.key_labels.index_copy(0, positions, labels[-len(keys) :])
        self.count = self.count + len(keys)
