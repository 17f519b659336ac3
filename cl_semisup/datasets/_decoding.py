"""What a data set holds before a pixel is decoded, and how that becomes its images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import memory_limit, splits
from cl_semisup.data.description import Layout
from cl_semisup.data.images import Images
from cl_semisup.datasets import _mapped
from cl_semisup.datasets._decoder import Decoder, bar
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
        fold: (M,) for data without a test part, the fold in which each training image is tested, or -1
        raw_layout: what `check` says about it, without the classes
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
    fold: NDArray[np.int64] | None = None
    raw_layout: Layout = field(default_factory=Layout)

    @property
    def layout(self) -> Layout:
        return replace(self.raw_layout, classes=self.classes)

    def tested(self, fraction: float | None, folds: int | None, *names: object) -> "Listing":
        """A share of each class of train becomes the test part, or the folds do, or neither; `names` are the seed."""
        labels = self.train_labels
        if folds:
            fold = splits.folds(labels, folds, *names)
            layout = replace(self.raw_layout, test=f"{folds} folds, repetition r tests fold r mod {folds}")
            return replace(self, fold=fold, split=splits.fingerprint(fold), raw_layout=layout)
        if not fraction:
            return self
        tested = splits.test_rows(labels, fraction, *names)
        parts = [[s for s, chosen in zip(self.train, rows, strict=True) if chosen] for rows in (~tested, tested)]
        split = splits.fingerprint(tested)
        layout = replace(self.raw_layout, test=f"{fraction:g} of each class, split {split}")
        own = replace(self, train=parts[0], train_labels=labels[~tested], split=split, raw_layout=layout)
        return replace(own, test=parts[1], test_labels=labels[tested])

    def images(self, settings: PixelSettings, where: str) -> Images:
        """All images. `where` names the data set in messages."""
        faults: list[DataError] = []
        s, larger = settings.pixel_settings, settings.larger
        parts = {name: part for name, part in self._parts().items() if part}
        pixels = self._pixels(s, parts, where, faults)
        raise_faults([str(fault) for fault in faults], f"{where}: {{}} images are broken")
        images = self._as_images(pixels)
        if larger is None:
            return images
        return replace(images, larger_images=self._pixels(larger, {"train": self.train}, where, faults)["train"])

    def without_pixels(self, s: PixelSettings) -> Images:
        """The same with zeros in place of the images, which take no memory, for the sizes."""
        shape = (s.bands, s.side, s.side)
        parts = {
            name: np.broadcast_to(np.uint8(0), (len(part), *shape)) for name, part in self._parts().items() if part
        }
        return self._as_images(parts)

    def files(self) -> tuple[Path, ...]:
        """The files of all images, if each is one of its own."""
        return tuple(Path(source.name) for part in self._parts().values() for source in part)

    def _parts(self) -> dict[str, Sequence[Source]]:
        return {"train": self.train, "test": self.test, "val": self.val}

    def _as_images(self, pixels: Mapping[str, NDArray[Any]]) -> Images:
        train = pixels["train"]
        own = (train, self.train_labels, pixels.get("test", train[:0]), self.test_labels, self.classes)
        held: dict[str, Any] = {"val_images": pixels["val"], "val_labels": self.val_labels} if "val" in pixels else {}
        return Images(*own, **held, split=self.split, fold=self.fold)

    def _pixels(
        self, s: PixelSettings, parts: Mapping[str, Sequence[Source]], where: str, faults: list[DataError]
    ) -> dict[str, NDArray[np.uint8]]:
        """Pixels of the parts, mapped if they are files of their own."""
        if self.root is None:
            return dict(zip(parts, _in_memory(s, list(parts.values()), where, faults), strict=True))
        named = {}
        for name, part in parts.items():
            paths = [Path(source.name).relative_to(self.root).as_posix() for source in part]
            named[name] = _mapped.Part(self.root, name + self.name, paths, NO_LABELS)
        return {name: _mapped.pixels(part, s, named["train"], faults, where) for name, part in named.items()}


def used_parts(
    sizes: Mapping[str, int], val: str | None, where: str, splitting: str = ""
) -> tuple[dict[str, list[str]], Layout]:
    """What each part of a data set is made of, and what `check` tells of that.

    Args:
        sizes: images of those of train, test and val that are there
        val: what the setting of that name says: validate, merge, or None
        splitting: the setting that makes a test part, if there is one
    """
    if splitting and "test" in sizes:
        rule = "is for data without a test part"
        raise DataError(f"{where}: {splitting} {rule}. Got one of {sizes['test']:,} images. Leave {splitting} out.")
    if "val" in sizes and "test" not in sizes and val is None and not splitting:
        return {"train": ["train"], "test": ["val"], "val": []}, Layout(test="val, as there is no test")
    used = {
        "train": ["train"],
        "test": ["test"] if "test" in sizes else [],
        "val": ["val"] if val == "validate" else [],
    }
    if val is None:
        note = "val is not used. Set `validation: own` to tune on it, or `val: merge` to train on it."
        return used, Layout(unused=("val",), notes=(note,)) if "val" in sizes else Layout()
    if "val" not in sizes:
        got, remedy = f"Got {val!r} and no such part", "Leave out `val` and `validation: own`"
        raise DataError(f"{where}: val: needs a validation part beside train and test. {got}. {remedy}.")
    if val == "validate":
        return used, Layout(validation=f"its own val, {sizes['val']:,} images")
    note = f"val is merged: {sizes['val']:,} of its images train."
    return used | {"train": ["train", "val"]}, Layout(notes=(note,))


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
    decoded, total = [], sum(map(len, parts))
    with bar(f"decoding {where}", total) as progress, Decoder(s, clip, total, progress, faults) as decoder:
        for part in parts:
            decoded.append(np.empty((len(part), s.bands, s.side, s.side), np.uint8))
            decoder.fill(decoded[-1], part)
    return decoded
