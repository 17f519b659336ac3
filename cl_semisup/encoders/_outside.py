"""What encoders share whose architecture or weights come from elsewhere."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_semisup.encoders._freeze import freeze
from cl_semisup.errors import InputError
from cl_semisup.weights import loading

SIDE = 32  # of images that are evaluated 1000 at once
MAX_NAMED = 6  # frozen modules in a note


Pixels = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation, a channel each, of pixels in [0, 1]


def pixels(mean: Sequence[float], std: Sequence[float], channels: int) -> Pixels:
    """For images of so many channels; grey images, which go into all three, have the means over the three."""
    if channels == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return tuple(mean), tuple(std)


def complete(net: nn.Module, channels: int, side: int, plugin: Any) -> nn.Module:
    """The network with its inputs adapted, its weights loaded and parts of it frozen, as the plug-in's fields say."""
    if plugin.resize:
        net.register_forward_pre_hook(_Resize(plugin.resize))
    if channels == 1:
        net.register_forward_pre_hook(_three_channels)
    seen = plugin.resize or side
    net.evaluation_batch = max(1, min(1000, 1000 * SIDE**2 // seen**2))  # type: ignore[assignment]
    if plugin.weights:
        net.loaded = loading.load(net, plugin.weights)  # type: ignore[assignment]
    freeze(net, plugin.freeze)
    return net


def check(plugin: Any, channels: int, side: int) -> tuple[str, ...]:
    """Build the network and try it on two images; notes on what was loaded and frozen. Raises InputError."""
    net = plugin.build(channels, side).eval()
    try:
        with torch.no_grad():
            shape = tuple(net(torch.zeros(2, channels, side, side)).shape)
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        remedy = "Set `resize` to the side that the model is made for."
        raise InputError(f"must take images of {channels} x {side} x {side}. Got {reason}. {remedy}") from None
    if shape != (2, net.dim):
        raise InputError(f"must give features (N, {net.dim}). Got {shape}. Name another model.")
    notes = [str(net.loaded) + "."] if hasattr(net, "loaded") else []
    if frozen := net.frozen:
        tensors = sum(not parameter.requires_grad for parameter in net.parameters())
        whole = frozen == ("",)
        names = "all" if whole else ", ".join(frozen[:MAX_NAMED]) + (", ..." if len(frozen) > MAX_NAMED else "")
        note = f"{tensors} of {len(list(net.parameters()))} parameter tensors are frozen: {names}."
        if whole:
            note += " Training does not change the features: compare losses by probes with `layer: projections`."
        notes.append(note)
    return tuple(notes)


def settings(plugin: Any, **changes: Any) -> dict[str, Any]:
    """The fields of a plug-in as plain data, with changes."""
    return {field.name: getattr(plugin, field.name) for field in fields(plugin)} | changes


def _three_channels(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Grey images go into all three channels of a network that was made for colours."""
    return (inputs[0].expand(-1, 3, -1, -1),)


class _Resize:
    """Bilinear; with a low-pass filter where images shrink."""

    def __init__(self, side: int):
        self.side = side

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        if x.shape[-1] == self.side:
            return (x,)
        return (F.interpolate(x, (self.side, self.side), mode="bilinear", antialias=self.side < x.shape[-1]),)
