"""What the pixels of a data set tell once they are read: how often each value occurs, and exact duplicates."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 4_000_000  # of images that are looked at together, so that mapped ones are never all in memory


@dataclass(frozen=True)
class PixelFacts:
    """Facts of uint8 images.

    Args:
        counts: for each channel, how often the training images hold each of the 256 values; () for other pixels
        duplicates: test images whose exact pixels are also those of a training image
    """

    counts: tuple[tuple[int, ...], ...]
    duplicates: int

    @property
    def values(self) -> tuple[int, ...]:
        """The values that occur in any channel, ascending."""
        total = np.sum(self.counts, axis=0) if self.counts else np.zeros(0)
        return tuple(np.flatnonzero(total).tolist())


def of(train: NDArray[Any], test: NDArray[Any]) -> PixelFacts:
    """The facts of (M, channels, side, side) training and test images."""
    return PixelFacts(counts(train), _duplicates(train, test))


def counts(images: NDArray[Any], rows: NDArray[np.intp] | None = None) -> tuple[tuple[int, ...], ...]:
    """(channels, 256) how often the images, or those at `rows` alone, hold each value; () for pixels of other types."""
    if images.dtype != np.uint8:
        return ()
    found = np.zeros((images.shape[1], 256), np.int64)
    size = _chunk(images)
    for first in range(0, len(images) if rows is None else len(rows), size):
        part = images[first : first + size] if rows is None else images[rows[first : first + size]]
        for channel in range(images.shape[1]):
            found[channel] += np.bincount(part[:, channel].ravel(), minlength=256)
    return tuple(tuple(row) for row in found.tolist())


def _duplicates(train: NDArray[Any], test: NDArray[Any]) -> int:
    """Images are compared by their hashes of 128 bits; those of the smaller part are held."""
    wanted = [_hash(image) for part in _chunks(test) for image in part]
    held = set(wanted)
    found = {key for part in _chunks(train) for image in part if (key := _hash(image)) in held} if held else set()
    return sum(key in found for key in wanted)


def _hash(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _chunks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    size = _chunk(images)
    return (images[first : first + size] for first in range(0, len(images), size))


def _chunk(images: NDArray[Any]) -> int:
    return max(1, CHUNK_BYTES // max(1, images[:1].nbytes))
