"""Pixels of arrays: of any kind of number to bytes, and channels first."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data.images import MAX_CHANNELS
from cl_semisup.datasets import _pixels

CHUNK = 256  # images that are converted at once


def as_bytes(arrays: Mapping[str, NDArray[Any]], white: float | str | None, where: str) -> dict[str, NDArray[Any]]:
    """Arrays of images as bytes, by `white`; the first is that of the training images, whose brightest may be white.

    Without `white` they stay as they are. Arrays that take no memory become zeros that take none.
    """
    if white is None:
        return dict(arrays)
    clip = white == "data"
    if clip:
        brightest = float(next(iter(arrays.values())).max(initial=0))
        white = brightest if brightest > 0 else 1.0
    return {name: _bytes(array, white, f"{where}: {name}", clip) for name, array in arrays.items()}


def _bytes(array: NDArray[Any], white: float | str, name: str, clip: bool) -> NDArray[np.uint8]:
    if array.size and not any(array.strides):
        return np.broadcast_to(np.uint8(0), array.shape)
    converted = np.empty(array.shape, np.uint8)
    for first in range(0, len(array), CHUNK):
        rows = slice(first, first + CHUNK)
        converted[rows] = _pixels.to_bytes(array[rows], white, name, clip)
    return converted


def remedy(shape: tuple[int, ...]) -> str:
    """What makes square images of arrays of another shape."""
    sides = {(c, math.isqrt(shape[1] // c)) for c in (3, 1)} if len(shape) == 2 else set()
    whole = [(c, side) for c, side in sorted(sides, reverse=True) if c * side**2 == shape[1]]
    if whole:
        return f"Tell their sides: `x.reshape(-1, {whole[0][0]}, {whole[0][1]}, {whole[0][1]})`"
    if len(shape) == 5:
        return "These are volumes: take a slice of each, `x[:, x.shape[1] // 2]`"
    least = min(shape[2:] if len(shape) == 4 and shape[1] in (1, 3) else shape[1:3], default=0)
    if len(shape) < 3 or least < 2 or shape[1] == shape[2]:
        return "Make them (M, side, side, channels)"
    cut = f"x[:, :, :{least}, :{least}]" if len(shape) == 4 and shape[1] in (1, 3) else f"x[:, :{least}, :{least}]"
    return f"Make them square: `{cut}`, or resize them"


def channels_first(images: NDArray[Any]) -> NDArray[np.uint8] | None:
    """(M, channels, side, side), a view; None if they are no square images of bytes with 1 to 16 channels.

    If both orders are possible (3 x 3 pixels in colour), channels come first.
    """
    shape = images.shape
    if images.dtype != np.uint8:
        return None
    if len(shape) == 3 and shape[1] == shape[2]:
        return images[:, None]
    if len(shape) == 4 and 1 <= shape[1] <= MAX_CHANNELS and shape[2] == shape[3]:
        return images
    if len(shape) == 4 and 1 <= shape[3] <= MAX_CHANNELS and shape[1] == shape[2]:
        return images.transpose(0, 3, 1, 2)
    return None
