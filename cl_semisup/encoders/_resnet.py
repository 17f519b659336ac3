"""What the two ResNets share."""

from torch import nn
from torchvision.models import ResNet


def as_encoder(net: ResNet, channels: int, side: int) -> nn.Module:
    """The network without its classifier, with the field's CIFAR stem (3x3, no max-pooling) below 64 pixels."""
    small = side < 64
    if small or channels != 3:
        size, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        net.conv1 = nn.Conv2d(channels, 64, size, stride=stride, padding=padding, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small:
        net.maxpool = nn.Identity()
    net.dim = net.fc.in_features
    net.fc = nn.Identity()
    return net
