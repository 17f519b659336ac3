from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from torch import nn
from torchvision.models import resnet18

from cl_semisup.config.added_later import AddedLater
from cl_semisup.encoders._resnet import as_encoder


@dataclass(frozen=True)
class ResNet18:
    """torchvision's ResNet-18 from random weights; below 64 pixels with the field's CIFAR stem (3x3, no max-pooling).

    Source: arXiv 1512.03385; the stem as in arXiv 2002.05709, appendix B.9

    Args:
        norm: batch norm, or group norm (arXiv 1803.08494) with 32 groups
    """

    norm: Annotated[Literal["batch", "group"], AddedLater()] = "batch"

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, 512)."""
        norm_layer = None if self.norm == "batch" else partial(nn.GroupNorm, 32)
        return as_encoder(resnet18(weights=None, norm_layer=norm_layer), channels, side)
