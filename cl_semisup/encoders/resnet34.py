from dataclasses import dataclass

from torch import nn
from torchvision.models import resnet34

from cl_semisup.encoders._resnet import as_encoder


@dataclass(frozen=True)
class ResNet34:
    """torchvision's ResNet-34 from random weights; below 64 pixels with the field's CIFAR stem (3x3, no max-pooling).

    Source: arXiv 1512.03385; the stem as in arXiv 2002.05709, appendix B.9
    """

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, 512)."""
        return as_encoder(resnet34(weights=None), channels, side)
