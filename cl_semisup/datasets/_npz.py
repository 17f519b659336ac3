"""Named arrays of an `.npz` file, checked by their headers before they are read; pickles are refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import memory_limit
from cl_semisup.datasets import _sources
from cl_semisup.errors import DataError


def read(path: Path, names: Sequence[str], pixels: bool) -> dict[str, NDArray[Any]]:
    """The named arrays. Without `pixels`, arrays called `..._images` are zeros that take no memory."""
    remedy = "Download it again"
    with _sources.opened_archive(path, remedy) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        missing = [name for name in names if name not in there]
        if missing:
            raise DataError(f"{path}: must hold arrays {', '.join(names)}. Got no {', '.join(missing)}. {remedy}.")
        headers = {name: _sources._header(archive, name, path) for name in names}
        memory_limit.require(sum(header.bytes for header in headers.values()), str(path))
        whole = {name: pixels or not name.endswith("_images") for name in names}
        return {name: _sources._array(archive, name, headers[name], whole[name]) for name in names}


def channels_first(images: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """(M, channels, side, side), a view."""
    return _sources._channels_first(images, what)


def joined(arrays: Sequence[NDArray[Any]], whole: bool) -> NDArray[Any]:
    """One after the other, contiguous; if not `whole`, zeros of that shape that take no memory."""
    if not whole:
        shape = (sum(len(array) for array in arrays), *arrays[0].shape[1:])
        return np.broadcast_to(np.zeros((), arrays[0].dtype), shape)
    return np.ascontiguousarray(np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
