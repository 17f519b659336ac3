import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval
from torch import nn

from cl_semisup.config.added_later import AddedLater
from cl_semisup.encoders._layers import SpatialMean


@dataclass(frozen=True)
class ConvNet:
    """A small convolutional network for images of 8 to 32 pixels: blocks of convolution, norm, pooling and ReLU.

    Each block doubles the width and, while the side is above 2 pixels, halves the side. Features are the spatial mean.
    Pooling comes before ReLU, which gives the same result and leaves ReLU a quarter of the values.

    Args:
        width: channels of the first block
        blocks: number of blocks
        norm: batch norm, group norm (8 groups, or the greatest common divisor of 8 and the width), or none
    """

    width: Annotated[int, Interval(ge=1, le=1024)] = 16
    blocks: Annotated[int, Interval(ge=1, le=6)] = 3
    norm: Annotated[Literal["batch", "group", "none"], AddedLater()] = "batch"

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, dim)."""
        layers: list[nn.Module] = []
        width = self.width
        for block in range(self.blocks):
            width = self.width * 2**block
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=self.norm == "none"))
            if self.norm != "none":
                groups = math.gcd(8, width)
                layers.append(nn.BatchNorm2d(width) if self.norm == "batch" else nn.GroupNorm(groups, width))
            if side > 2:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            layers.append(nn.ReLU(inplace=True))
            channels = width
        net = nn.Sequential(*layers, SpatialMean())
        net.dim = width  # type: ignore[assignment]
        return net
