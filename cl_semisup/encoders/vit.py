from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import nn
from torchvision.models import VisionTransformer


@dataclass(frozen=True)
class ViT:
    """torchvision's vision transformer: layer norm throughout, so no image depends on the others of its batch.

    Features are the class token's, heads * head_width wide. ViT-S/16 is patch 16, layers 12, heads 6.

    Source: arXiv 2010.11929

    Args:
        patch: side of a patch in pixels; the largest divisor of the image's side that is not above it is taken
        layers: number of blocks
        heads: heads of attention
        head_width: channels of a head
    """

    patch: Annotated[int, Interval(ge=1, le=64)] = 4
    layers: Annotated[int, Interval(ge=1, le=48)] = 6
    heads: Annotated[int, Interval(ge=1, le=32)] = 3
    head_width: Annotated[int, Interval(ge=1, le=256)] = 64

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, heads * head_width)."""
        patch = max(size for size in range(1, min(self.patch, side) + 1) if side % size == 0)
        width = self.heads * self.head_width
        net = VisionTransformer(side, patch, self.layers, self.heads, width, 4 * width)
        if channels != 3:
            net.conv_proj = nn.Conv2d(channels, width, patch, stride=patch)
            nn.init.trunc_normal_(net.conv_proj.weight, std=(channels * patch * patch) ** -0.5)
            nn.init.zeros_(net.conv_proj.bias)
        net.heads = nn.Identity()
        net.dim = width
        return net
