from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from cl_semisup.contrast import mean, nothing, unit
from cl_semisup.contrast.prototypes import regular_simplex
from cl_semisup.losses import Requirements, Setting


@dataclass(frozen=True)
class Unhinged:
    """Unhinged loss on the sphere with a fixed simplex classifier: linear in the logits, so it never saturates.

        L = mean over labelled images and both views of  -l_y + 1/(C-1) sum_{c != y} l_c,    l_c = r w_c.u
          = mean  -C/(C-1) r w_y.u          since the corners sum to 0

    u is the projection scaled to length 1; the corners w (C, D) are unit vectors with pairwise cosine -1/(C-1), drawn
    once and never trained. Other weights of the two terms would only rescale the learning rate. Off the sphere the loss
    has no minimum. Batches are drawn from the labelled images only.

    Group: reproductions
    Source: arXiv 2312.07841, the spherically constrained case with a fixed simplex; no public code
    Difference: the weights of the two terms are the canonical ones of the multi-class unhinged loss; the paper's own
    parameter is left out, because the learning rate replaces it
    Degenerate: without a labelled image it is 0 with a graph; a single class has no second term. C > D + 1 has no
    simplex and is refused.

    Args:
        radius: r of the sphere, > 0; a factor of the loss
    """

    radius: Annotated[float, Gt(0)] = 1.0

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("unhinged")
        return _Spherical(regular_simplex(classes, dim, setting.generator(), "unhinged"), self.radius)


class _Spherical(nn.Module):
    """The loss with its fixed corners: `prototypes` (C, D)."""

    requirements = Requirements(
        labels=True, trains_on="labelled", exempt={"rotation": "the corners are fixed directions"}
    )
    prototypes: Tensor

    def __init__(self, prototypes: Tensor, radius: float):
        super().__init__()
        self.register_buffer("prototypes", prototypes)
        self.radius = radius

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            return nothing(z1, z2)
        u, v = unit(z1), unit(z2)
        logits = self.radius / 2 * (u + v) @ self.prototypes.to(u.dtype).T  # (N, C), mean of both views
        own = logits.gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
        others = (logits.sum(dim=1) - own) / max(len(self.prototypes) - 1, 1)
        return mean(others - own, labels >= 0, z1, z2)
