from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True)
class Identity:
    """The inputs as they are, flattened. It has no weights, so that only the projector is trained.

    Scores of the features are then the same for every loss, those of the projections tell what was trained: a suite
    with it is ordered by a score that starts with `projection_`.
    """

    frozen: ClassVar[bool] = True

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, channels * side * side)."""
        net = nn.Flatten()
        net.dim = channels * side * side  # type: ignore[assignment]
        return net
