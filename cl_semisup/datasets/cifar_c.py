import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Interval, MinLen
from numpy.lib import format as npy
from numpy.typing import NDArray

from cl_semisup.data import memory_limit
from cl_semisup.data.images import Facts, Images
from cl_semisup.data.parts import ImagesInParts
from cl_semisup.datasets import _folders, _labels, _sources
from cl_semisup.errors import DataError, first_ten
from cl_semisup.system import files

SEVERITIES = 5  # of a file of 50,000 images: 10,000 in each, in the order of severity


@dataclass(frozen=True)
class CifarC:
    """Further test images in `.npy` files: CIFAR-10-C and CIFAR-100-C as they unpack, or CIFAR-10.1.

    The folder holds `labels.npy` and a file for each kind of corruption, uint8 (severities * images, 32, 32, 3), in
    which the labels repeat for each severity; or, as CIFAR-10.1, one file of images and a `..._labels.npy` named in
    `labels`. It has no training images: name it in the probe `shifted_test`.

    Source: arXiv 1903.12261 and 1806.00451; files as their authors publish them

    Args:
        folder: relative to data_dir, such as CIFAR-10-C
        labels: the file of labels in it
        images: the one file of images to use; every other `.npy` file if not set
        classes: number of classes
    """

    folder: Annotated[str, MinLen(1)] = "CIFAR-10-C"
    labels: Annotated[str, MinLen(1)] = "labels.npy"
    images: Annotated[str, MinLen(1)] | None = None
    classes: Annotated[int, Interval(ge=2, le=1000)] = 10
    views: ClassVar[dict[str, Any]] = _sources.NATURAL
    test_only: ClassVar[bool] = True

    def facts(self, data_dir: Path) -> Facts:
        return self._read(data_dir, pixels=False).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        self._read(data_dir, pixels=False)  # there is no download

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        root = _sources.inside(data_dir, self.folder, "cifar_c: folder")
        return (root / self.labels, *self._paths(root)) if os.path.lexists(root) else ()

    def load(self, data_dir: Path) -> Images:
        return self._read(data_dir, pixels=True)

    def _paths(self, root: Path) -> list[Path]:
        """The files of images, in the order of their names."""
        if self.images is not None:
            return [_sources.inside(root, self.images, "cifar_c: images")]
        names = [name for name in _folders.names(root, "cifar_c") if name.endswith(".npy") and name != self.labels]
        if not names:
            raise DataError(f"cifar_c: {root}: must hold .npy files of images. Got none. Unpack its archive there.")
        return [root / name for name in names]

    def _read(self, data_dir: Path, pixels: bool) -> ImagesInParts:
        root = _sources.inside(data_dir, self.folder, "cifar_c: folder")
        if not root.is_dir():
            remedy = "Unpack its archive there"
            raise DataError(f"cifar_c: folder: must be in {data_dir}. Got no folder {root}. {remedy}.")
        label_array = _array(_sources.inside(root, self.labels, "cifar_c: labels"), True)
        labels = _labels.column(label_array, str(root / self.labels)).astype(np.int64)
        paths = self._paths(root)
        memory_limit.require(sum(path.stat().st_size for path in paths if path.is_file()), str(root))
        images_by_part, truth, parts, wrong = [], [], [], []
        for path in paths:
            images = _array(path, pixels)
            if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] != 3:
                rule = "must be uint8 (M, side, side, 3)"
                raise DataError(
                    f"{path}: {rule}. Got {images.dtype} {images.shape}. Name the files to use in `images`."
                )
            times, rest = divmod(len(images), len(labels))
            if rest or times not in (1, SEVERITIES):
                wrong.append(f"{path.name} ({len(images)})")
            severities = SEVERITIES if times == SEVERITIES or _repeats(labels) else 1
            parts.append((path.stem, severities, len(images) // severities))
            images_by_part.append(images.transpose(0, 3, 1, 2))
            truth.append(np.tile(labels, max(1, times)))
        if wrong:
            rule = f"must hold as many images as {self.labels} holds labels ({len(labels)}), or five times as many"
            raise DataError(f"cifar_c: {root}: every file {rule}. Got {first_ten(wrong)}. Name one in `images`.")
        test = _joined(images_by_part, pixels)
        names = tuple(map(str, range(self.classes)))
        try:  # one image stands for the training part, which there is none of
            return ImagesInParts(test[:1], np.full(1, -1), test, np.concatenate(truth), names, parts=tuple(parts))
        except DataError as error:
            raise DataError(f"cifar_c: {root}: {error}") from None


def _joined(images_by_part: list[NDArray[np.uint8]], pixels: bool) -> NDArray[np.uint8]:
    """All images; without `pixels`, zeros that take no memory."""
    if pixels:
        return np.concatenate(images_by_part)
    return np.broadcast_to(np.uint8(0), (sum(map(len, images_by_part)), *images_by_part[0].shape[1:]))


def _repeats(labels: NDArray[np.int64]) -> bool:
    """Are the labels those of one severity, five times?"""
    if len(labels) % SEVERITIES:
        return False
    rows = labels.reshape(SEVERITIES, -1)
    return bool((rows == rows[0]).all())


def _array(path: Path, whole: bool) -> NDArray[Any]:
    """The array in an `.npy` file; pickles are refused. If not `whole`, zeros of its shape that take no memory."""
    remedy = "Unpack its archive again."
    with (
        _sources._as_data_error(f"{path}: must be an .npy file that can be read", remedy),
        files.open_regular(path) as file,
    ):
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(file)
        held = os.fstat(file.fileno()).st_size - file.tell()
        if not dtype.hasobject and (dtype.itemsize == 0 or held != math.prod(shape) * dtype.itemsize):
            raise ValueError("its header tells another size")
        if not whole:
            return np.broadcast_to(np.zeros((), dtype), shape)
        memory_limit.require(held, str(path))
        file.seek(0)
        return np.asarray(npy.read_array(file, allow_pickle=False))
