from dataclasses import dataclass

from torch import nn
from torchvision.models import resnet18


@dataclass(frozen=True)
class ResNet18:
    """torchvision's ResNet-18 from random weights; below 64 pixels with the field's CIFAR stem (3x3, no max-pooling).

    Source: arXiv 1512.03385; the stem as in arXiv 2002.05709, appendix B.9
    """

    def build(self, channels: int, side: int) -> nn.Module:
        """(N, channels, side, side) -> (N, 512)."""
        net = resnet18(weights=None)
        small = side < 64
        if small or channels != 3:
            size, stride, padding = (3, 1, 1) if small else (7, 2, 3)
            net.conv1 = nn.Conv2d(channels, 64, size, stride=stride, padding=padding, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        if small:
            net.maxpool = nn.Identity()
        net.fc = nn.Identity()
        net.dim = 512
        return net
