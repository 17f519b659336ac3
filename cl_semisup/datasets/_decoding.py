"""Many image files are decoded side by side, and every broken one is told."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cl_semisup.data import memory_limit
from cl_semisup.data.images import Images
from cl_semisup.datasets import _pixels
from cl_semisup.datasets._pixels import PixelSettings, Source
from cl_semisup.errors import DataError

MAX_FAULTS = 10  # offenders that are named
T = TypeVar("T")
S = TypeVar("S", bound=PixelSettings)


@dataclass(frozen=True, eq=False)
class Listing:
    """What a data set holds before a pixel is decoded: M images of train and of test, labels (M,), names of classes."""

    train: Sequence[Source]
    train_labels: NDArray[np.int64]
    test: Sequence[Source]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def images(self, s: PixelSettings, where: str) -> Images:
        """All images, decoded into memory. `where` names the data set in messages."""
        size = (len(self.train) + len(self.test)) * s.channels * s.side**2
        memory_limit.require(size, where)
        faults: list[DataError] = []
        clip, s = s.white == "data", _with_white(self.train, s, faults)
        parts = [_decoded(part, s, clip, faults) for part in (self.train, self.test)]
        raise_faults([str(fault) for fault in faults], f"{where}: {{}} images are broken")
        return Images(parts[0], self.train_labels, parts[1], self.test_labels, self.classes)

    def without_pixels(self, s: PixelSettings) -> Images:
        """The same with zeros in place of the images, which take no memory, for the sizes."""
        parts = [np.broadcast_to(np.uint8(0), (len(p), s.channels, s.side, s.side)) for p in (self.train, self.test)]
        return Images(parts[0], self.train_labels, parts[1], self.test_labels, self.classes)


def raise_faults(faults: Sequence[str], summary: str) -> None:
    """DataError that names the first ten of the faults, a line each, and their number (`{}` in the summary)."""
    lines = list(faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        lines.append(f"{summary.format(len(faults))}; the first {MAX_FAULTS} are named.")
    if lines:
        raise DataError(*lines)


def ten_of(offenders: Sequence[Any]) -> str:
    """The first ten, and how many more there are: `'a', 'b' and 3 more`."""
    named = ", ".join(repr(offender) for offender in offenders[:MAX_FAULTS])
    return named + (f" and {len(offenders) - MAX_FAULTS} more" if len(offenders) > MAX_FAULTS else "")


def _with_white(train: Sequence[Source], s: S, faults: list[DataError]) -> S:
    """The settings, with the brightest training pixel in place of `white: data`."""
    if s.white != "data":
        return s
    found = _each(lambda source: _pixels.brightest(source, s), train)
    values = [value for value in found if not isinstance(value, DataError)]
    return replace(s, white=max([value for value in values if value > 0], default=1.0))  # faults are found again


def _decoded(sources: Sequence[Source], s: PixelSettings, clip: bool, faults: list[DataError]) -> NDArray[np.uint8]:
    """(M, channels, side, side). Adds what is broken to `faults`, and is then of no use."""
    pixels = np.empty((len(sources), s.channels, s.side, s.side), np.uint8)

    def decode(number: int) -> None:
        pixels[number] = _pixels.decode(sources[number], s, clip)

    faults += [fault for fault in _each(decode, range(len(sources))) if isinstance(fault, DataError)]
    return pixels


def _each(action: Callable[[Any], T], items: Sequence[Any]) -> list[T | DataError]:
    """The results in threads, in order (PIL releases Python's lock); a DataError takes its result's place."""

    def attempt(item: Any) -> T | DataError:
        try:
            return action(item)
        except DataError as error:
            return error

    Image.init()  # loads PIL's decoders, which several threads must not do at a time
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(attempt, items))
