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

import warnings
from typing import Protocol

import torch
from torch import nn

from cl_semisup.errors import InputError


class Encoder(Protocol):
    def build(self, channels: int, side: int) -> nn.Module: ...


def without_numbers(encoder: Encoder, channels: int, side: int) -> nn.Module:
    """The network on torch's device `meta`, where it takes no memory."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")  # numbers of a file
        return encoder.build(channels, side)


@torch.no_grad()
def trial(encoder: Encoder, channels: int, side: int) -> None:
    """Build the encoder and encode two images without numbers; raises what it raises."""
    images = torch.empty(2, channels, side, side, device="meta")
    with torch.device("meta"):
        without_numbers(encoder, channels, side).eval()(images)


def linear_layers(net: nn.Module) -> list[int]:
    """Where the linear layers of a row of them begin, lowest first. InputError if the encoder is no such row.

    All are as wide as the features, so that a projector reads each as it reads the last.
    """
    members = list(net) if isinstance(net, nn.Sequential) else []
    starts = [place for place, member in enumerate(members) if isinstance(member, nn.Linear)]
    widths = [members[place].out_features for place in starts]
    if not starts or set(widths) != {net.dim}:
        rule = "layer-causal steps need an encoder that is a row of linear layers of one width"
        got = f"widths {widths}" if starts else f"no such row ({type(net).__name__})"
        raise InputError(f"{rule}. Got {got}. Use mlp or linear, or another optimizer.")
    return starts
