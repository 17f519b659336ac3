"""What losses share that compare unit projections with trained unit weights, one a class."""

import torch
from torch import Tensor, nn

from cl_semisup.contrast import both, unit
from cl_semisup.contrast.prototypes import random_unit
from cl_semisup.losses import Asks, Setting

ASKS = Asks(labels=True, trains_on="labelled", exempt={"rotation": "the classes' weights are directions of their own"})


class ClassWeights(nn.Module):
    """`prototypes` (C, D) are trained with the network, start as random directions, and are used at length 1."""

    asks = ASKS

    def __init__(self, setting: Setting, what: str):
        super().__init__()
        dim, classes = setting.require(what)
        self.prototypes = nn.Parameter(random_unit(classes, dim, setting.generator()))

    def labelled(self, z1: Tensor, z2: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Unit rows (2L, D) of both views of the labelled images, their classes (2L,), and unit weights (C, D)."""
        known = torch.zeros(len(z1), dtype=torch.bool, device=z1.device) if labels is None else labels >= 0
        classes = torch.empty(0, dtype=torch.long, device=z1.device) if labels is None else labels[known].repeat(2)
        rows = both(z1[known], z2[known])
        return rows, classes, unit(self.prototypes).to(rows.dtype)
