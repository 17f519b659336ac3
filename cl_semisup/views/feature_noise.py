from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.data.views import once_for_data
from cl_semisup.views import Draw


@dataclass(frozen=True)
class FeatureNoise:
    """Gaussian noise on every feature, in proportion to the standard deviation of its column.

        x'_f = x_f + strength * s_f * n,   n ~ N(0, 1),   s_f over the training rows

    Args:
        strength: in units of a column's standard deviation
    """

    strength: Annotated[float, Interval(ge=0, le=10)] = 0.5

    inputs: ClassVar[str] = "features"

    def view(self, images: Tensor, draw: Draw) -> Tensor:
        noise = draw.send(torch.randn(images.shape, generator=draw.random))
        return images + self.strength * draw.send(_deviation(draw.data)) * noise


@once_for_data
def _deviation(data: Tensor) -> Tensor:
    """(F, 1, 1)."""
    if data.device.type == "mps":  # which has no float64
        data = data.cpu()
    return data.double().std(dim=0, correction=0).float()
