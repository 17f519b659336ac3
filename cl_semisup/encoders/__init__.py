"""Encoders, one a file. To add one, write a frozen dataclass whose fields are its settings, with this method:

    build(channels, side) -> nn.Module    maps (N, channels, side, side) float images to (N, dim) features

Set `net.dim = width`, the width of the features. The module must work in train and in eval mode and for any side of a
data set. Batch norm is the only layer that may mix the images of a batch. An encoder without trained weights says so:
`frozen: ClassVar[bool] = True`. Rows of F features come as images (N, F, 1, 1).

An encoder whose architecture or weights come from elsewhere has more. All of it may be left out:

    check(channels, side) -> notes     raises InputError where it cannot be built; called once when a suite is checked
    weight_files() -> paths            files whose weights it takes; their hash goes into records
    hub_config(net, side, mean, std)   what its library reads in the config.json of a Hugging Face folder
    architecture() -> {name: settings} the encoder without files and freezing, for networks that are kept
    pixels(channels) -> (mean, std)    by which pixels in [0, 1] are normalised; None for those of the training images
    net.loaded                         what was loaded, see `weights.loading.Loaded`
    net.frozen                         names of modules that stay in evaluation mode in training; "" is the whole
    net.evaluation_batch               images at once when features are computed
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
