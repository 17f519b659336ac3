"""Published sets of photographs that other work transfers to: torchvision says which files and labels they have."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _pixels, _sources, _table
from cl_semisup.datasets._decoding import Listing
from cl_semisup.errors import DataError

Rows = Sequence[tuple[Path, int]]  # files and their labels


@dataclass(frozen=True, kw_only=True)
class Photographs(_pixels.PixelSettings):
    """Inherited by a plug-in, which sets the variables and reads the rows. Nothing is downloaded.

    Args:
        frames: what to do with a file of several frames, refuse it or take its first
    """

    frames: Literal["refuse", "first"] | None = "first"
    name: ClassVar[str]  # the plug-in's
    files: ClassVar[tuple[str, ...]]  # relative to data_dir, all of which must exist
    metric: ClassVar[str] = "top1"  # that papers give: top1, mean_per_class or map

    def facts(self, data_dir: Path) -> Facts:
        return self.listing(data_dir).without_pixels(self).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        if not all(os.path.lexists(data_dir / name) for name in self.files):
            return ()
        described = [data_dir / name for name in (*self.files, *self.tables()) if (data_dir / name).is_file()]
        return (*described, *self.listing(data_dir).files())

    def load(self, data_dir: Path) -> Images:
        return self.listing(data_dir).images(self, self.name)

    def listing(self, data_dir: Path) -> Listing:
        """The files and labels of both parts."""
        self.require_files(data_dir)
        remedy = "Unpack its archives again."
        with _sources._as_data_error(f"{self.name}: its files in {data_dir} cannot be read", remedy):
            train, test, classes = self.rows(data_dir)
        for part, rows in (("train", train), ("test", test)):
            if not rows:
                raise DataError(f"{self.name}: must have images for {part} in {data_dir}. Got none. {remedy}")
        return Listing(*_columns(train), *_columns(test), tuple(classes), self.root(data_dir))

    def require_files(self, data_dir: Path) -> None:
        missing = [name for name in self.files if not os.path.lexists(data_dir / name)]
        if missing:
            remedy = "Unpack its archives there, as torchvision has them"
            raise DataError(f"{self.name}: must be in {data_dir}. Got no {data_dir / missing[0]}. {remedy}.")
        named = [data_dir / name for name in (*self.files, *self.tables())]
        tables = (path for path in named if path.suffix and os.path.lexists(path))
        _sources.require_regular(tables, self.name, _table.MAX_BYTES)

    def root(self, data_dir: Path) -> Path:
        """The set's own folder, in which its decoded pixels are kept."""
        return data_dir / self.files[0].partition("/")[0]

    def tables(self) -> tuple[str, ...]:
        """Files with labels that are not among `files`, relative to data_dir."""
        return ()

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        """Training rows, test rows and the names of the classes."""
        raise NotImplementedError


def listed(data_set: Any) -> list[tuple[Path, int]]:
    """The rows of a data set of torchvision that was made with `loader=Path`, which opens nothing."""
    return [(path, int(label)) for path, label in (data_set[number] for number in range(len(data_set)))]


def _columns(rows: Iterable[tuple[Path, int]]) -> tuple[list[_pixels.Source], Any]:
    paths, labels = zip(*rows, strict=True)
    return [_pixels.of_file(path) for path in paths], np.array(labels, np.int64)
