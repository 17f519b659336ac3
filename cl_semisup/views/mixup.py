from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.data.settings import Probability
from cl_semisup.views import Draw


@dataclass(frozen=True)
class Mixup:
    """Mixup without labels: a little of another training image is added as a background; the target stays the same.

        y_i = (1 - w) x_i + w p_i,   w uniform in [0, weight],   p_i a random other image as stored

    The image itself keeps the larger share, and the view still stands for it alone: this is an augmentation and no
    mixing of targets. Both views of an image draw their own partners.

    Source: the background of BYOL-A (arXiv 2103.06695, section III-B, w uniform in [0, 0.4]); the mean of two images is
    mixup's (arXiv 1710.09412)
    Difference: partners come from the whole training set, not from earlier batches; i-Mix, MixCo and Un-Mix mix the
    targets of the loss too, which a view cannot do

    Args:
        probability: of each image and view
        weight: largest share of the partner; at most a half
    """

    probability: Probability = 1.0
    weight: Annotated[float, Interval(ge=0, le=0.5)] = 0.2

    inputs: ClassVar[str] = "any"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        share = self.weight * draw.uniform(len(images)).view(-1, 1, 1, 1)
        share = torch.where(draw.chosen(self.probability), share, 0.0)
        return torch.lerp(images, draw.partners(), share)
