"""What a data set holds before a pixel is decoded, and how that becomes its images."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cl_semisup.data import memory_limit, splits
from cl_semisup.data.images import Images
from cl_semisup.datasets import _mapped, _pixels
from cl_semisup.datasets._pixels import PixelSettings, Source
from cl_semisup.errors import DataError

MAX_FAULTS = 10  # offenders that are named
NO_LABELS = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Listing:
    """M images of train and of test, labels (M,), names of classes, and a validation part if there is one.

    Args:
        root: the folder in which all images are files of their own; their pixels are then kept there, in a mapped file
        name: tells the mapped files of data sets in one folder apart: letters, or letters and digits
        split: hash of the split that made the test part
    """

    train: Sequence[Source]
    train_labels: NDArray[np.int64]
    test: Sequence[Source]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    root: Path | None = None
    name: str = ""
    val: Sequence[Source] = field(default=())
    val_labels: NDArray[np.int64] = field(default_factory=lambda: NO_LABELS)
    split: str = ""

    def tested(self, fraction: float, *names: object) -> "Listing":
        """A share of each class of train becomes the test part; `names` are the seed."""
        tested = splits.test_rows(self.train_labels, fraction, *names)
        parts = [[s for s, chosen in zip(self.train, rows, strict=True) if chosen] for rows in (~tested, tested)]
        labels = self.train_labels
        split = splits.fingerprint(tested)
        return replace(
            self, train=parts[0], train_labels=labels[~tested], test=parts[1], test_labels=labels[tested], split=split
        )

    def images(self, settings: PixelSettings, where: str) -> Images:
        """All images. `where` names the data set in messages."""
        faults: list[DataError] = []
        s, larger = settings.pixel_settings, settings.larger
        parts = [part for part in (self.train, self.test, self.val) if part]
        pixels = self._pixels(s, parts, where, faults)
        raise_faults([str(fault) for fault in faults], f"{where}: {{}} images are broken")
        images = self._as_images(pixels)
        return replace(images, larger_images=self._pixels(larger, parts[:1], where, faults)[0]) if larger else images

    def without_pixels(self, s: PixelSettings) -> Images:
        """The same with zeros in place of the images, which take no memory, for the sizes."""
        shape = (s.bands, s.side, s.side)
        parts = [part for part in (self.train, self.test, self.val) if part]
        return self._as_images([np.broadcast_to(np.uint8(0), (len(part), *shape)) for part in parts])

    def files(self) -> tuple[Path, ...]:
        """The files of all images, if each is one of its own."""
        return tuple(Path(source.name) for part in (self.train, self.test, self.val) for source in part)

    def _as_images(self, pixels: list[NDArray[Any]]) -> Images:
        train, test, *val = pixels
        own = (train, self.train_labels, test, self.test_labels, self.classes)
        held: dict[str, Any] = {"val_images": val[0], "val_labels": self.val_labels} if val else {}
        return Images(*own, **held, split=self.split)

    def _pixels(
        self, s: PixelSettings, parts: Sequence[Sequence[Source]], where: str, faults: list[DataError]
    ) -> list[NDArray[np.uint8]]:
        """Pixels of the parts, mapped if they are files of their own."""
        if self.root is None:
            return _in_memory(s, parts, where, faults)
        named = []
        for name, part in zip(("train", "test", "val"), parts, strict=False):
            paths = [Path(source.name).relative_to(self.root).as_posix() for source in part]
            named.append(_mapped.Part(self.root, name + self.name, paths, NO_LABELS))
        return [_mapped.pixels(part, s, named[0], faults, where) for part in named]


def raise_faults(faults: Sequence[str], summary: str) -> None:
    """DataError that names the first ten of the faults, a line each, and their number (`{}` in the summary)."""
    lines = list(faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        lines.append(f"{summary.format(len(faults))}; the first {MAX_FAULTS} are named.")
    if lines:
        raise DataError(*lines)


def _in_memory(
    s: PixelSettings, parts: Sequence[Sequence[Source]], where: str, faults: list[DataError]
) -> list[NDArray[np.uint8]]:
    """Pixels of images inside other files, in memory. Adds what is broken to `faults`; they are then of no use."""
    memory_limit.require(sum(len(part) for part in parts) * s.bands * s.side**2, where)
    clip = s.white == "data"
    if clip:
        s = replace(s, white=_mapped.brightest(parts[0], s)[0])  # what is broken is found again
    Image.init()  # loads PIL's decoders, which several threads must not do at a time
    decoded = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for part in parts:
            pixels = np.empty((len(part), s.bands, s.side, s.side), np.uint8)

            def decode(
                number: int, part: Sequence[Source] = part, pixels: NDArray[np.uint8] = pixels
            ) -> DataError | None:
                try:
                    pixels[number] = _pixels.decode(part[number], s, clip)
                except DataError as error:
                    return error
                return None

            faults += [fault for fault in pool.map(decode, range(len(part))) if fault is not None]
            decoded.append(pixels)
    return decoded
