from dataclasses import dataclass

from torch import Tensor, nn

from cl_semisup.contrast import mean, nothing, unit
from cl_semisup.contrast.prototypes import regular_simplex
from cl_semisup.losses import Requirements, Setting


@dataclass(frozen=True)
class ETFDotRegression:
    """Dot regression to a fixed simplex: bring each labelled image's cosine with its class's corner to 1.

        L = mean over labelled i of 1/2 [ 1/2 (w_{y_i}.u_i - 1)^2 + 1/2 (w_{y_i}.v_i - 1)^2 ]

    on unit rows u, v; the C corners w are unit vectors with pairwise cosine -1/(C-1), drawn once and never trained.
    The gradient -(1 - cos) w only pulls, and vanishes as the cosine reaches 1; only the corners keep classes apart.
    Batches are drawn from the labelled images only.

    Group: further
    Source: arXiv 2203.09081; arXiv 2302.03004; NeuralCollapseApplications/FSCIL ETFHead.py (DRLoss)
    Difference: on the projections of two views, averaged, where the code has one view; no per-class lengths for
    imbalanced data; without the factor loss_weight (10 in the few-shot code), which the learning rate replaces
    Degenerate: without a labelled image it is 0 with a graph. C > D + 1 has no simplex and is refused.
    """

    def build(self, setting: Setting) -> nn.Module:
        dim, classes = setting.require("etf_dot_regression")
        return _ToCorners(regular_simplex(classes, dim, setting.generator(), "etf_dot_regression"))


class _ToCorners(nn.Module):
    """The loss with its fixed corners: `prototypes` (C, D)."""

    requirements = Requirements(
        labels=True, trains_on="labelled", exempt={"rotation": "the corners are fixed directions"}
    )
    prototypes: Tensor

    def __init__(self, prototypes: Tensor):
        super().__init__()
        self.register_buffer("prototypes", prototypes)

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            return nothing(z1, z2)
        u, v = unit(z1), unit(z2)
        corner = self.prototypes.to(u.dtype)[labels.clamp(min=0)]  # (N, D); rows of unlabelled images do not count
        error = (((u * corner).sum(dim=1) - 1).square() + ((v * corner).sum(dim=1) - 1).square()) / 4
        return mean(error, labels >= 0, z1, z2)
