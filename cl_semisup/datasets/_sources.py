"""What the data sets share: arrays in one `.npz`, torchvision's files, paths inside data_dir."""

import io
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cl_semisup.data import label_names, memory_limit
from cl_semisup.data.images import Facts, Images
from cl_semisup.errors import DataError, described
from cl_semisup.system import fetched, files

PIXELS = ("train_images", "test_images")
LABELS = ("train_labels", "test_labels")
MAX_HEADER_BYTES = 65_536  # of an array; numpy writes some hundred
MAX_FILE_BYTES = 4_000_000_000  # of one that is read by torchvision; STL-10's largest has 2.8 GB
MAX_CLASSES = 1_000_000
LABEL_BYTES = 32  # that a label takes beside its own: as int64, and in what is computed from it
MNIST_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
CONTENTS = "train_images, train_labels, test_images, test_labels and, if you like, classes"

# SimCLR's views for natural images, with its colour strength for CIFAR (0.5) and no blur at 32 pixels. One difference:
# crops keep at least 0.2 of the area, as in HobbitLong/SupContrast@8d0963a main_supcon.py, the source of these views.
# SimCLR and solo-learn's CIFAR settings go down to 0.08, which is 9 by 9 of 32 by 32 pixels.
NATURAL: dict[str, Any] = {
    "crop_area": 0.2,
    "flip": 0.5,
    "jitter": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grayscale": 0.2,
}


class Published:
    """A published data set: the user's own `<data_dir>/<name>.npz` if it exists, else torchvision's files in data_dir.

    A plug-in inherits `facts`, `prepare` and `load`. It sets the variables below and reads torchvision's files.
    """

    name: ClassVar[str]  # the plug-in's name
    torchvision: ClassVar[str]  # the class in torchvision.datasets
    files: ClassVar[tuple[str, ...]]  # torchvision's files, relative to data_dir, all of which must exist
    class_names: ClassVar[tuple[str, ...]] = ()  # torchvision's own if empty

    @property
    def published(self) -> Facts:
        """The published sizes, which torchvision's files must have."""
        raise NotImplementedError

    def archive(self, data_dir: Path) -> Path:
        """The user's own copy, which is preferred to torchvision's files."""
        return data_dir / f"{self.name}.npz"

    def facts(self, data_dir: Path) -> Facts:
        archive = self.archive(data_dir)
        return read_archive(archive, pixels=False).facts() if os.path.lexists(archive) else self.published

    def prepare(self, data_dir: Path, download: bool) -> None:
        """Check that the files exist, or download them. One process at a time: torchvision writes without a lock."""
        if os.path.lexists(self.archive(data_dir)):
            self.facts(data_dir)
        elif download:
            remedy = f"Try again, or put {self.name}.npz there."
            with _as_data_error(f"{self.name}: download to {data_dir} failed", remedy):
                self._fetch(data_dir)
        else:
            self._check_files(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        """The files that decide its content; () if it is not there."""
        archive, published = self.archive(data_dir), tuple(data_dir / name for name in self.files)
        if os.path.lexists(archive):  # a link to nowhere must not make way for the published files
            return (archive,)
        return published if all(path.exists() for path in published) else ()

    def load(self, data_dir: Path) -> Images:
        if os.path.lexists(self.archive(data_dir)):
            return read_archive(self.archive(data_dir))
        self._check_files(data_dir)
        rule = f"{self.name}: torchvision's files in {data_dir} cannot be read"
        remedy = "Delete them and set `download: true` in the suite."
        with _as_data_error(rule, remedy):
            images = self._read(data_dir)
        if images.facts() != self.published:
            raise DataError(f"{rule}: must be {self.published}. Got {images.facts()}. {remedy}")
        return images

    def _part(self, data_dir: Path, **arguments: Any) -> Any:
        """torchvision's data set of the training or the test part."""
        from torchvision import datasets

        return getattr(datasets, self.torchvision)(data_dir, **arguments)

    def _fetch(self, data_dir: Path) -> None:
        """Download what is missing or damaged (torchvision compares MD5 sums)."""
        self._part(data_dir, train=False, download=True)  # fetches the training part too

    def _read(self, data_dir: Path) -> Images:
        """Read torchvision's files."""
        raise NotImplementedError

    def _check_files(self, data_dir: Path) -> None:
        missing = [name for name in self.files if not (data_dir / name).exists()]
        if missing:
            got = f"neither {self.archive(data_dir)} nor torchvision's {data_dir / missing[0]}"
            remedy = f"Set `download: true` in the suite, or put {self.name}.npz there with arrays {CONTENTS}."
            raise DataError(f"{self.name}: must be in {data_dir}. Got {got}. {remedy}")
        require_regular((data_dir / name for name in self.files), self.name)


class PublishedCifar(Published):
    """CIFAR's format: arrays (M, 32, 32, 3) and lists of labels."""

    def _read(self, data_dir: Path) -> Images:
        train, test = (self._part(data_dir, train=train) for train in (True, False))
        train_images, test_images = (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test))
        train_labels, test_labels = (np.asarray(part.targets, np.int64) for part in (train, test))
        return Images(train_images, train_labels, test_images, test_labels, tuple(train.classes))


class PublishedMnist(Published):
    """MNIST's format: tensors (M, 28, 28) and (M,)."""

    def _read(self, data_dir: Path) -> Images:
        train, test = (self._part(data_dir, train=train) for train in (True, False))
        train_images, test_images = (part.data.numpy()[:, None] for part in (train, test))  # (M, 1, 28, 28)
        names = self.class_names or tuple(train.classes)
        return Images(train_images, train.targets.numpy(), test_images, test.targets.numpy(), names)


def inside(data_dir: Path, path: str, what: str) -> Path:
    """`data_dir / path`. A path that leads out of data_dir raises, because a suite may come from a stranger."""
    for flavour in (PurePosixPath(path), PureWindowsPath(path)):
        if not path or "\0" in path or flavour.anchor or ".." in flavour.parts:
            remedy = "Name it relative to data_dir, without '..'."
            raise DataError(f"{what}: must be a path inside data_dir. Got {path!r}. {remedy}")
    return data_dir / path


def require_regular(paths: Iterable[Path], what: str, limit: int | None = MAX_FILE_BYTES) -> None:
    """DataError unless these are regular files of at most `limit` bytes: other libraries open anything, and wait."""
    for path in paths:
        try:
            files.open_regular(path, limit).close()
        except OSError as error:
            reason = files.reason(error)
            raise DataError(f"{what}: {path}: cannot be read: {reason}. Unpack its archive again.") from None


def read_archive(path: Path, pixels: bool = True) -> Images:
    """The arrays of an `.npz`. Without `pixels`, the images are zeros of the right shape that take no memory.

    Images: uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side), 1 or 3 channels; if both
    orders are possible (3x3 pixels), channels come first. Labels: integers (M,) or (M, 1). Classes: names (C,).
    """
    with opened_archive(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        missing = [name for name in (*PIXELS, *LABELS) if name not in names]
        if missing:
            raise DataError(f"{path}: must hold arrays {CONTENTS}. Got no {', '.join(missing)}. Add them.")
        used = (*PIXELS, *LABELS, *({"classes"} & names))
        headers = {name: _header(archive, name, path) for name in used}
        _check_headers(headers, path)
        arrays = {name: _array(archive, name, headers[name], pixels or name not in PIXELS) for name in used}
    train_labels, test_labels = (_integers(arrays[name], f"{path}: {name}") for name in LABELS)
    classes = _class_names(arrays.get("classes"), train_labels, test_labels, path)
    train_images, test_images = (_channels_first(arrays[name], f"{path}: {name}") for name in PIXELS)
    if pixels:  # a copy of the zeros would take the memory of the images
        train_images, test_images = np.ascontiguousarray(train_images), np.ascontiguousarray(test_images)
    try:
        return Images(train_images, train_labels, test_images, test_labels, classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _channels_first(images: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """(M, channels, side, side), a view."""
    shape = images.shape
    if images.dtype == np.uint8 and len(shape) == 3 and shape[1] == shape[2]:
        return images[:, None]
    if images.dtype == np.uint8 and len(shape) == 4:
        if shape[1] in (1, 3) and shape[2] == shape[3]:
            return images
        if shape[3] in (1, 3) and shape[1] == shape[2]:
            return images.transpose(0, 3, 1, 2)
    rule = "must be uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side) with 1 or 3 channels"
    raise DataError(f"{what}: {rule}. Got {images.dtype} {shape}. Convert them.")


@contextmanager
def _as_data_error(rule: str, remedy: str) -> Iterator[None]:
    """Raise errors of the block as a DataError: numpy raises its tokenizer's too, and torchvision assertions."""
    try:
        yield
    except (DataError, MemoryError):  # has its message already; is no fault of the data
        raise
    except Exception as error:
        raise DataError(f"{rule}. Got {described(error).rstrip('.')}. {remedy}") from error


@contextmanager
def opened_archive(path: Path, remedy: str = "Write it again with numpy.savez") -> Iterator[zipfile.ZipFile]:
    """An `.npz`; whatever goes wrong in the block is a DataError with the remedy."""
    rule = f"{path}: must be an .npz archive that can be read"
    with _as_data_error(rule, f"{remedy}."), files.open_regular(path) as file:
        got, otherwise = fetched.instead(file)
        if got:
            raise DataError(f"{rule}. Got {got}. {otherwise}.")
        with files.open_zip(file) as archive:
            yield archive


@dataclass(frozen=True)
class _Header:
    """What the header of an array claims, before the array is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _header(archive: zipfile.ZipFile, name: str, path: Path) -> _Header:
    """The header of one array. Its claim must equal the archive's, and the array must be plain data."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack to any size
        raise DataError(f"{path}: {name}: must be stored or deflated. Got another compression. Write it again.")
    with archive.open(member) as packed:
        file = io.BytesIO(packed.read(MAX_HEADER_BYTES))  # a header may claim gigabytes for itself
    read_header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    header = _Header(tuple(shape), dtype)
    label_names.require_width(dtype, f"{path}: {name}")
    if dtype.hasobject:
        rule = "must be plain data, not pickled objects, which could run code when read"
        raise DataError(f"{path}: {name}: {rule}. Got dtype {dtype}. Save numbers or strings.")
    if dtype.itemsize == 0 or min(header.shape, default=0) < 0:  # any number of them takes no byte
        raise DataError(f"{path}: {name}: must have bytes in every element. Got {dtype} {shape}. Write it again.")
    if header.bytes != (size := member.file_size - file.tell()):  # a damaged header must not allocate memory
        rule = f"must hold {header.bytes} bytes, as its header says"
        raise DataError(f"{path}: {name}: {rule}. Got {size}. Write it again.")
    return header


def _check_headers(headers: Mapping[str, _Header], path: Path) -> None:
    """Labels and names must be as many as the images allow, and all arrays fit in memory, before any is read."""
    for part in ("train", "test"):
        images, labels = headers[f"{part}_images"].shape, headers[f"{part}_labels"].shape
        if images and labels and images[0] != labels[0]:
            got = f"{labels[:1]} labels, {images[0]} images"
            raise DataError(f"{path}: {part}: one label an image. Got {got}.")
    labels_bytes = sum(LABEL_BYTES * math.prod(headers[name].shape) for name in LABELS)
    memory_limit.require(labels_bytes + sum(header.bytes for header in headers.values()), str(path))
    names = math.prod(headers["classes"].shape) if "classes" in headers else 0
    if names > MAX_CLASSES:
        raise DataError(f"{path}: classes: must be at most {MAX_CLASSES} names. Got {names}. Leave out the rest.")


def _array(archive: zipfile.ZipFile, name: str, header: _Header, whole: bool) -> NDArray[Any]:
    """One array; if not `whole`, zeros of its shape with strides of 0, from its header alone."""
    if not whole:
        return np.broadcast_to(np.zeros((), header.dtype), header.shape)
    with archive.open(f"{name}.npy") as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _integers(labels: NDArray[Any], what: str) -> NDArray[np.int64]:
    """(M,) int64 from (M,) or (M, 1) integers of any width."""
    column = labels.ndim == 2 and labels.shape[1] == 1
    if labels.dtype.kind not in "iu" or not (labels.ndim == 1 or column):
        raise DataError(f"{what}: must be integers (M,). Got {labels.dtype} {labels.shape}. Convert them.")
    return labels.reshape(len(labels)).astype(np.int64)


def _class_names(
    names: NDArray[Any] | None, train: NDArray[np.int64], test: NDArray[np.int64], path: Path
) -> tuple[str, ...]:
    """The names as strings; without names, the numbers from 0 to the largest label."""
    if names is None:
        largest = max(int(labels.max(initial=-1)) for labels in (train, test))
        if largest >= len(train):  # a stray label would make a million classes
            rule = f"train_labels, test_labels: must count classes from 0, fewer than the {len(train)} training images"
            raise DataError(f"{path}: {rule}. Got {largest}. Renumber them, or name the classes in an array `classes`.")
        return tuple(str(number) for number in range(largest + 1))
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        got = f"{names.dtype} {names.shape}"
        raise DataError(f"{path}: classes: must be names (C,). Got {got}. Save a list of strings.")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist())
