import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Interval, MinLen

from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _archive, _other_formats, _sources
from cl_semisup.errors import DataError


@dataclass(frozen=True)
class Arrays:
    """Your own images in one `.npz` file, as `numpy.savez` writes it.

    Arrays: train_images and test_images, uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side)
    with 1 to 16 channels; train_labels and test_labels, (M,) or (M, 1) whole numbers from 0 or names, or one-hot rows,
    and -1 (or an empty name) in train_labels where unknown. Keras' names x_train, y_train, x_test, y_test do as well,
    and others that say the same (X_train, train_x; images and labels alone are for training). Optional are
    unlabelled_images, which train with label -1; classes, (C,) names; val_images and val_labels, which are used if
    `val` says what for. Pickled objects are refused. The views are those of natural images (crops down to a fifth of
    the area, mirroring, colour changes, no blur): change them if they would change an image's class.

    Source: None

    Args:
        file: the `.npz`, relative to data_dir
        test_fraction: share of each class that is the test part, drawn once and the same for all runs
        folds: the images are tested in so many folds, repetition r testing fold r mod folds
        white: pixel value that stands for white, or `data` for the brightest training pixel, beyond which others are
            clipped; needed for images that are not uint8
        val: what val_images and val_labels are for: tuning (validate), or training (merge); else they are not used
    """

    file: Annotated[str, MinLen(1)]
    test_fraction: Annotated[float, Interval(ge=0.01, le=0.9)] | None = None
    folds: Annotated[int, Interval(ge=2, le=1000)] | None = None
    val: Literal["validate", "merge"] | None = None
    white: Annotated[float, Gt(0)] | Literal["data"] | None = None
    views: ClassVar[dict[str, Any]] = _sources.NATURAL

    def facts(self, data_dir: Path) -> Facts:
        return _archive.facts(self._path(data_dir), self._choices())[0]

    def layout(self, data_dir: Path) -> Layout:
        return _archive.facts(self._path(data_dir), self._choices())[1]

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.facts(data_dir)  # there is no download

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        path = _sources.inside(data_dir, self.file, "arrays: file")
        return (path,) if os.path.lexists(path) else ()

    def load(self, data_dir: Path) -> Images:
        return _archive.read(self._path(data_dir), self._choices())[0]

    def _choices(self) -> _archive.Choices:
        return _archive.Choices(self.file, self.test_fraction, self.folds, self.val, self.white)

    def _path(self, data_dir: Path) -> Path:
        path = _sources.inside(data_dir, self.file, "arrays: file")
        if remedy := _other_formats.array_remedy(Path("x.npy") if path.is_dir() else path) * path.exists():
            raise DataError(f"arrays: file: must be an .npz. Got {path}. {remedy}.")
        if not path.is_file():
            remedy = f"Put an .npz there with arrays {_sources.CONTENTS}."
            raise DataError(f"arrays: file: must be in {data_dir}. Got no file {path}. {remedy}")
        return path
