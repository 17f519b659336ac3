from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl_semisup.data.settings import Probability
from cl_semisup.views import Draw


@dataclass(frozen=True)
class Solarize:
    """Solarisation: pixels from a threshold on become their negatives.

        y = 1 - x where x >= threshold, else x

    Source: BYOL, arXiv 2006.07733, appendix B (one of the two views, with probability 0.2); PIL's ImageOps.solarize
    Difference: every view has the same probability, where BYOL and DINO solarise the second view alone

    Args:
        probability: of each image and view
        threshold: of pixel values in [0, 1]; 0.5 is PIL's 128 of 255
    """

    probability: Probability = 0.2
    threshold: Probability = 0.5

    inputs: ClassVar[str] = "images"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        solarised = torch.where(images >= self.threshold, 1 - images, images)
        return torch.where(draw.chosen(self.probability), solarised, images)
