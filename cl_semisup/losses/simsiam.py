from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import unit
from cl_semisup.losses import Requirements, Setting
from cl_semisup.losses._predictor import Predictor


@dataclass(frozen=True)
class SimSiam:
    """SimSiam: predict the other view's projection, which is held fixed. No negatives, no momentum encoder.

        L = -1/2 mean_i [ cos(p(z1_i), z2_i) + cos(p(z2_i), z1_i) ],   no gradient through the second of each pair

    p is a predictor of two layers on the projections, trained with the network.

    Group: core
    Source: arXiv 2011.10566; facebookresearch/simsiam simsiam/builder.py
    Difference: the predictor follows the learning rate's schedule (constant there); the projector is the suite's,
    without batch norm on its output
    Degenerate: L lies in [-1, 1]; -1 alone may be collapse, all rows equal. Labels are ignored.

    Args:
        hidden: width of the predictor's hidden layer, >= 1; a quarter of D in the paper
    """

    hidden: Annotated[int, Ge(1)] = 512

    def build(self, setting: Setting) -> nn.Module:
        return _SimSiam(Predictor(setting.width("simsiam"), self.hidden, setting.seed))


class _SimSiam(nn.Module):
    requirements: ClassVar[Requirements] = Requirements(
        exempt={
            "gradient": "the target is held fixed",
            "rotation": "the predictor's weights are directions of their own",
        }
    )

    def __init__(self, predictor: nn.Module):
        super().__init__()
        self.predictor = predictor

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        target1, target2 = unit(z1).detach(), unit(z2).detach()
        agreement = (unit(self.predictor(z1)) * target2).sum(dim=1) + (unit(self.predictor(z2)) * target1).sum(dim=1)
        return -agreement.mean() / 2
