"""Layers that torch lacks, or has in a slower form."""

from torch import Tensor, nn


class SpatialMean(nn.Module):
    """(N, C, H, W) -> (N, C), as AdaptiveAvgPool2d(1) and Flatten, but with a gradient in channels-last memory order.

    The mean is taken with channels as the last dimension, as they lie in memory, and so does the gradient. With the
    ReLU before it, that is up to 10 times faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1).mean(dim=(1, 2))
