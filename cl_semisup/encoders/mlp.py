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
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        net = nn.Sequential(*layers)
        net.dim = self.width  # type: ignore[assignment]
        return net
