from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from annotated_types import Interval
from torch import nn


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron on the pixels: Linear, BatchNorm and ReLU, repeated.

    Args:
        width: units of every layer
        layers: number of layers
    """

    width: Annotated[int, Interval(ge=1, le=65536)] = 256
    layers: Annotated[int, Interval(ge=1, le=32)] = 2

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, dim)."""
        widths = [channels * side * side] + [self.width] * self.layers
        return _Perceptron(widths)


class _Perceptron(nn.Sequential):
    def __init__(self, widths: list[int]):
        layers: list[nn.Module] = [nn.Flatten()]
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.dim = widths[-1]
