"""Encoders, one a file. To add one, write a frozen dataclass whose fields are its settings, with this method:

    build(channels, side) -> nn.Module    maps (N, channels, side, side) float images to (N, dim) features

Set `net.dim = width`, the width of the features. The module must work in train and in eval mode and for any side of a
data set. Batch norm is the only layer that may mix the images of a batch. An encoder without trained weights says so:
`frozen: ClassVar[bool] = True`. Rows of F features come as images (N, F, 1, 1).
"""

from typing import Protocol

import torch
from torch import nn


class Encoder(Protocol):
    def build(self, channels: int, side: int) -> nn.Module: ...


@torch.no_grad()
def trial(encoder: Encoder, channels: int, side: int) -> None:
    """Build the encoder and encode two images without numbers (torch's device `meta`); raises what it raises."""
    with torch.device("meta"):
        encoder.build(channels, side).eval()(torch.empty(2, channels, side, side))
