from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor

from cl_semisup.contrast import logsumexp, nothing, others, unit


@dataclass(frozen=True)
class DHEL:
    """Decoupled hyperspherical energy loss: alignment apart from the energy within each view.

        L = mean_i [ -u_i.v_i / t + log sum_{j != i} exp(u_i.u_j / t) + log sum_{j != i} exp(v_i.v_j / t) ]

    Anchors are compared with other images of their own view only; the positive is in no denominator.

    Group: further
    Source: arXiv 2405.18045; pakoromilas/DHEL-KCL losses.py (include_augs is both_views here)
    Difference: logsumexp instead of log(sum(exp)), so small temperatures do not overflow
    Degenerate: one image has no others: 0 with a graph. Labels are ignored.

    Args:
        temperature: t, > 0
        both_views: keep the third term, the energy of the second view
    """

    temperature: Annotated[float, Gt(0)] = 0.3
    both_views: bool = True

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.per_image(z1, z2, labels).mean()

    def per_image(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N,) value of each image."""
        if len(z1) < 2:
            return nothing(z1, z2).expand(len(z1))
        u, v = unit(z1), unit(z2)  # (N, D)
        other = others(len(u), u.device)
        loss = -(u * v).sum(dim=1) / self.temperature + logsumexp(u @ u.T / self.temperature, other)
        if self.both_views:
            loss = loss + logsumexp(v @ v.T / self.temperature, other)
        return loss
