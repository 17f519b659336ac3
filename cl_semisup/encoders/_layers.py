"""Layers that torch lacks, or has in a slower form."""

from torch import Tensor, nn


class SpatialMean(nn.Module):
    """(N, C, H, W) -> (N, C), as AdaptiveAvgPool2d(1) and Flatten, whose gradient comes in another memory order.

    Channels come last in memory, and are the last dimension here, so that the gradient's are too: up to 10 times faster
    with the ReLU before it.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1).mean(dim=(1, 2))
