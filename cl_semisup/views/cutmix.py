from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.data.settings import Probability
from cl_semisup.views import Draw


@dataclass(frozen=True)
class CutMix:
    """CutMix without labels: a box of another training image covers the same box of this one; the target stays.

    The box has the image's own shape, a share of the area uniform in [0, area] and a uniform centre; it is cut at the
    borders. At least half of the image remains, and the view still stands for it alone: the other image is an
    occlusion with natural content, and no target is mixed. Both views of an image draw their own partners.

    Source: arXiv 1905.04899, section 3.1 (the box)
    Difference: labels are not mixed; partners come from the whole training set as stored, not from the batch

    Args:
        probability: of each image and view
        area: largest share of the image that the box covers; at most a half
    """

    probability: Probability = 0.5
    area: Annotated[float, Interval(ge=0, le=0.5)] = 0.3

    inputs: ClassVar[str] = "images"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        side = images.shape[-1]
        share, *centre = draw.uniform(3, len(images)).view(3, -1, 1, 1, 1)
        half = (self.area * share).sqrt() * side / 2
        pixel = torch.arange(side, device=images.device) + 0.5
        across, down = (pixel - side * centre[0]).abs() < half, (pixel[:, None] - side * centre[1]).abs() < half
        return torch.where(across & down & draw.chosen(self.probability), draw.partners(), images)
