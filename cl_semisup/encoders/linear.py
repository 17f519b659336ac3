from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import nn


@dataclass(frozen=True)
class Linear:
    """One trained linear map, an adapter on stored features. It has no batch norm, which would forgive large steps.

    As wide as its input it starts from the identity, so that the untrained network gives the features as they are;
    otherwise from a random matrix with orthonormal rows or columns, which nearly keeps distances.

    Source: None

    Args:
        width: of its output; 0 means as wide as its input
    """

    width: Annotated[int, Interval(ge=0, le=65536)] = 0

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, dim)."""
        inputs = channels * side * side
        linear = nn.Linear(inputs, self.width or inputs)
        if linear.in_features == linear.out_features:
            nn.init.eye_(linear.weight)
        else:
            nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        net = nn.Sequential(nn.Flatten(), linear)
        net.dim = linear.out_features  # type: ignore[assignment]
        return net
