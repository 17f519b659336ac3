from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting, Share, Views
from cl_semisup.losses._predictor import Predictor


@dataclass(frozen=True)
class BYOL:
    """BYOL: predict the momentum encoder's projection of the other view. No negatives.

        L = mean_i [ 2 - 2 cos(p(z1_i), t2_i) ] + mean_i [ 2 - 2 cos(p(z2_i), t1_i) ]

    p is a predictor of two layers on the projections, trained with the network; t are the projections of the momentum
    encoder, which take no gradient.

    Group: core
    Source: arXiv 2006.07733; deepmind/deepmind-research byol/byol_experiment.py
    Difference: the predictor's first layer has no bias (batch norm follows)
    Degenerate: L lies in [0, 8]; 0 may be collapse, all rows equal. Labels are ignored.

    Args:
        hidden: width of the predictor's hidden layer, >= 1; 4096 in the paper
        momentum: decay of the momentum encoder at the first step, cosine to 1; 0.996 in the paper, less in short runs
    """

    hidden: Annotated[int, Ge(1)] = 512
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        return _BYOL(Predictor(setting.width("byol"), self.hidden, setting.seed), self.momentum)


class _BYOL(nn.Module):
    def __init__(self, predictor: nn.Module, momentum: float):
        super().__init__()
        self.predictor = predictor
        self.requirements = Requirements(
            needs=("momentum_projections",),
            momentum=(momentum, 1.0),
            exempt={"rotation": "the predictor's weights are directions of their own"},
        )

    def forward(
        self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, momentum_projections: Views | None = None
    ) -> Tensor:
        target1, target2 = momentum_projections or (z1.detach(), z2.detach())
        agreement = (unit(self.predictor(z1)) * unit(target2)).sum(dim=1)
        agreement = agreement + (unit(self.predictor(z2)) * unit(target1)).sum(dim=1)
        return (4 - 2 * agreement).mean()
