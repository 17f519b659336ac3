import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval
from torch import Tensor, nn

from cl_semisup.encoders._layers import SpatialMean


@dataclass(frozen=True)
class CifarResNet:
    """The narrow residual network for small images: ResNet-8 with one block a stage, ResNet-20 with three.

    Of its three stages the second and the third begin with half the side and twice the channels. Features are the
    spatial mean, 4 * width wide.

    Source: arXiv 1512.03385, section 4.2
    Difference: where the size changes, the shortcut is a 1x1 convolution with its norm (option B); the paper pads with
        zeros there. The norm can be another one or none

    Args:
        blocks: residual blocks of each stage
        width: channels of the first stage
        norm: batch norm, group norm (8 groups, or the greatest common divisor of 8 and the width), or none
    """

    blocks: Annotated[int, Interval(ge=1, le=18)] = 3
    width: Annotated[int, Interval(ge=1, le=1024)] = 16
    norm: Literal["batch", "group", "none"] = "batch"

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, 4 * width)."""
        layers: list[nn.Module] = [*_convolution(channels, self.width, 1, self.norm), nn.ReLU(inplace=True)]
        inputs = self.width
        for stage in range(3):
            width = self.width * 2**stage
            for block in range(self.blocks):
                layers.append(_Block(inputs, width, 2 if stage > 0 and block == 0 else 1, self.norm))
                inputs = width
        net = nn.Sequential(*layers, SpatialMean())
        net.dim = inputs  # type: ignore[assignment]
        return net


class _Block(nn.Module):
    """relu(shortcut(x) + F(x)), F of two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        first, second = _convolution(inputs, width, stride, norm), _convolution(width, width, 1, norm)
        self.residual = nn.Sequential(*first, nn.ReLU(inplace=True), *second)
        same = inputs == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, width, stride, norm, size=1))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return out


def _convolution(inputs: int, width: int, stride: int, norm: str, size: int = 3) -> list[nn.Module]:
    """A convolution and its norm; a bias only where no norm follows."""
    bare = norm == "none"
    convolution = nn.Conv2d(inputs, width, size, stride=stride, padding=size // 2, bias=bare)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if bare:
        return [convolution]
    return [convolution, nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(math.gcd(8, width), width)]
