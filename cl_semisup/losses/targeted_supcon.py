from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import both, identities, mean, others, same
from cl_semisup.contrast.prototypes import regular_simplex
from cl_semisup.losses import Requirements, Setting, Share


@dataclass(frozen=True)
class TargetedSupCon:
    """Targeted SupCon: SupCon with fixed, evenly spread targets that are assigned to classes during training.

        L = mean_a  -1/(|P(a)| + w_a) { sum_{b in P(a)} log p(b | a) + w_a log p(target of y_a | a) }
        p(x | a) = exp(a.x / t) / [ sum_{c != a} exp(a.c / t) + sum over all targets of exp(a.target / t) ]

    P(a): all views but a of images of the same identity; w_a is w for a labelled image, else 0. The C targets are
    corners of a simplex. Each class has a mean direction, which follows the batches; the assignment of targets to
    classes maximises the sum of cosines (Hungarian method) in every step. CLOP fixes which prototype is whose; here the
    data decide.

    Group: further
    Source: arXiv 2111.13998, equations 2 to 4; LTH14/targeted-supcon@6096cf16 moco/builder.py (KCL, targeted)
    Difference: both views of the batch instead of a queue of momentum keys, all classmates as positives instead of a
    sample of k, unlabelled images as identities of their own; so this is a reconstruction of the idea, not the
    published method itself. The assignment is solved on the host: on a GPU every step waits for it
    Degenerate: C > D + 1 has no simplex and is refused. One image and one class stay finite.

    Args:
        temperature: t, > 0
        weight: w, >= 0, of the target among an anchor's positives
        memory: share of the old mean direction that stays when a class is in a batch
    """

    temperature: Annotated[float, Gt(0)] = 0.1
    weight: Annotated[float, Ge(0)] = 1.0
    memory: Share = 0.9

    def build(self, setting: Setting) -> nn.Module:
        return _TargetedSupCon(self, setting)


class _TargetedSupCon(nn.Module):
    """`targets` (C, D) are fixed, `centroids` (C, D) the classes' mean directions."""

    requirements = Requirements(labels=True, exempt={"rotation": "the targets are fixed directions"})
    targets: Tensor
    centroids: Tensor

    def __init__(self, settings: TargetedSupCon, setting: Setting):
        super().__init__()
        dim, classes = setting.require("targeted_supcon")
        generator = setting.generator()
        self.settings = settings
        self.register_buffer("targets", regular_simplex(classes, dim, generator, "targeted_supcon"))
        drawn = torch.randn(classes, dim, generator=generator)
        self.register_buffer("centroids", nn.functional.normalize(drawn, dim=1))

    @property
    def prototypes(self) -> Tensor:
        """(C, D) the target of each class now."""
        return self.targets[self._assignment(self.centroids)]

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        z, weight = both(z1, z2), self.settings.weight  # (2N, D)
        known = torch.full((len(z1),), -1, device=z.device) if labels is None else labels
        known = known.repeat(2)
        centroids = self._moved(z.detach(), known)
        if self.training and torch.is_grad_enabled():
            self.centroids = centroids.to(self.centroids.dtype)
        targets = self.targets.to(z.dtype)
        other = others(len(z), z.device)
        logits = z @ torch.cat([z, targets]).T / self.settings.temperature  # (2N, 2N + C)
        counted = torch.cat([other, torch.ones_like(logits[:, len(z) :], dtype=torch.bool)], dim=1)
        log_total = logits.masked_fill(~counted, -torch.inf).logsumexp(dim=1)
        positive = (same(identities(labels, len(z1), z.device).repeat(2)) & other).to(z.dtype)
        own = self._assignment(centroids)[known.clamp(min=0)]  # (2N,) the target of each row's class
        wanted = weight * (known >= 0).to(z.dtype)
        pull = (logits[:, : len(z)] * positive).sum(dim=1)
        pull = pull + wanted * logits[:, len(z) :].gather(1, own[:, None]).squeeze(1)
        anchors = log_total - pull / (positive.sum(dim=1) + wanted)
        return mean(anchors, torch.ones_like(known, dtype=torch.bool), z1, z2)

    @torch.no_grad()
    def _moved(self, z: Tensor, labels: Tensor) -> Tensor:
        """(C, D) the mean directions after this batch."""
        known = labels >= 0
        sums = torch.zeros_like(self.centroids, dtype=z.dtype).index_add_(0, labels[known], z[known])
        kept = self.settings.memory
        moved = nn.functional.normalize(
            kept * self.centroids + (1 - kept) * nn.functional.normalize(sums, dim=1), dim=1
        )
        present = torch.bincount(labels[known], minlength=len(sums)) > 0
        return torch.where(present[:, None], moved, self.centroids.to(z.dtype))

    @torch.no_grad()
    def _assignment(self, centroids: Tensor) -> Tensor:
        """(C,) the number of each class's target."""
        from scipy.optimize import linear_sum_assignment

        cosines = centroids.double() if centroids.device.type != "mps" else centroids.cpu().double()
        _, chosen = linear_sum_assignment(-(cosines @ self.targets.to(cosines).T).cpu().numpy())
        return torch.from_numpy(chosen).to(centroids.device)
