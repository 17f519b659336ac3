"""What losses share that compare unit projections with trained unit weights, one a class."""

import torch
from torch import Tensor, nn

from cl_semisup.contrast import both, unit
from cl_semisup.contrast.prototypes import random_unit
from cl_semisup.losses import Requirements, Setting

ASKS = Requirements(
    labels=True, trains_on="labelled", exempt={"rotation": "the classes' weights are directions of their own"}
)


class ClassWeights(nn.Module):
    """`prototypes` (C, D) are trained with the network, start as random directions, and are used at length 1."""

    requirements = ASKS

    def __init__(self, setting: Setting, what: str):
        super().__init__()
        dim, classes = setting.require(what)
        self.prototypes = nn.Parameter(random_unit(classes, dim, setting.generator()))

    def rows(self, z1: Tensor, z2: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Unit rows (2N, D) of both views, their classes (2N,), -1 where unknown, and unit weights (C, D).

        Unlabelled rows stay, so that sizes do not depend on data; the losses leave them out of their sums.
        """
        rows = both(z1, z2)
        classes = torch.full((len(z1),), -1, device=z1.device) if labels is None else labels
        return rows, classes.repeat(2), unit(self.prototypes).to(rows.dtype)
