from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.views import Draw


@dataclass(frozen=True)
class FeatureDropout:
    """Random features of a row are set to 0, and the others are divided by the share that is kept, as dropout does.

    Source: as the dropout masks of arXiv 2104.08821 (SimCSE), but of stored features

    Args:
        probability: of each feature
    """

    probability: Annotated[float, Interval(ge=0, lt=1)] = 0.2

    inputs: ClassVar[str] = "features"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        kept = draw.uniform(*images.shape) >= self.probability
        return torch.where(kept, images / (1 - self.probability), 0.0)
