import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import MinLen

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources
from cl_semisup.errors import DataError


@dataclass(frozen=True)
class Arrays:
    """Your own images in one `.npz` file, as `numpy.savez` writes it.

    Arrays: train_images and test_images, uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side)
    with 1 or 3 channels; train_labels and test_labels, integers (M,) from 0, and -1 in train_labels where unknown;
    classes, optional, (C,) names. Pickled objects are refused. The views are those of natural images (crops down to a
    fifth of the area, mirroring, colour changes, no blur): change them if they would change an image's class.

    Source: None

    Args:
        file: the `.npz`, relative to data_dir
    """

    file: Annotated[str, MinLen(1)]
    views: ClassVar[dict[str, Any]] = _sources.NATURAL

    def facts(self, data_dir: Path) -> Facts:
        return _sources.read_archive(self._path(data_dir), pixels=False).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.facts(data_dir)  # there is no download

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        path = _sources.inside(data_dir, self.file, "arrays: file")
        return (path,) if os.path.lexists(path) else ()

    def load(self, data_dir: Path) -> Images:
        return _sources.read_archive(self._path(data_dir))

    def _path(self, data_dir: Path) -> Path:
        path = _sources.inside(data_dir, self.file, "arrays: file")
        if not path.is_file():
            remedy = f"Put an .npz there with arrays {_sources.CONTENTS}."
            raise DataError(f"arrays: file: must be in {data_dir}. Got no file {path}. {remedy}")
        return path
