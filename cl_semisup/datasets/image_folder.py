import math
import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from annotated_types import Interval, MinLen
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from cl_semisup import files, owner
from cl_semisup.data import memory_limit
from cl_semisup.data.images import Facts, Images, untested
from cl_semisup.datasets import _sources
from cl_semisup.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # not PIL's EPS, which would start a program
CHUNK = 1024  # images decoded before they are written: 12 MB at 64 pixels
DECODING_BYTES = 12  # of memory that a pixel takes while it is decoded
LARGE_PIXELS = 4_000_000  # images with more are decoded one at a time
MAX_FAULTS = 10  # broken files that are named
DECODING = 1  # increase it when the same file gives other pixels, so that caches are rebuilt


# a cache signed by a user, or one of an earlier version, which is not signed
CACHE = re.compile(
    r"\.cl_semisup-\d+-(?:(?P<part>train|test|val)-(?P<user>[0-9a-f]{8})(?P<mac>[0-9a-f]{32})|[0-9a-f]{16})\.npy"
)
_one_large_image = Lock()


@dataclass(frozen=True)
class ImageFolder:
    """Your own images, a folder a class: `<folder>/train/<class>/*` and `<folder>/test/<class>/*` (or `val`).

    The classes are train's sub-folders in the order of their names; test may lack some. Every file but hidden ones must
    be an image. It becomes RGB (16-bit grey scaled to 8 bit, transparency dropped, EXIF orientation ignored) and its
    centre square is resized to the side, bilinear and antialiased. The result is cached beside `train` as
    `.cl_semisup-<side>-<part>-<signature>.npy` (M * 3 * side * side bytes), which is read from disk as needed and may
    be deleted at any time. It is used only by the user who made it, and only while no file has changed. In a read-only
    folder, images are decoded into memory at every start. The views are those of natural images (crops down to a fifth
    of the area, mirroring, colour changes, no blur): change them if they would change an image's class.

    Source: None

    Args:
        folder: the folder that holds `train`, relative to data_dir
        side: pixels of a side after resizing
    """

    folder: Annotated[str, MinLen(1)]
    side: Annotated[int, Interval(ge=4, le=1024)] = 64
    views: ClassVar[dict[str, Any]] = _sources.NATURAL

    def facts(self, data_dir: Path) -> Facts:
        classes, train, test = self._parts(data_dir)
        sizes = tuple(np.bincount(train.labels).tolist())
        uneven = sizes if len(set(sizes)) > 1 else ()
        missing = untested(classes, train.labels, test.labels)
        return Facts(len(train.files), len(test.files), len(classes), 3, self.side, min(sizes), uneven, missing)

    def prepare(self, data_dir: Path, download: bool) -> None:
        """Decode all images into the cache, so that a broken file is found before anything runs."""
        faults: list[DataError] = []
        for part in self._parts(data_dir)[1:]:
            _pixels(part, self.side, faults, keep=False)
        _require_none(faults)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        if not os.path.lexists(_sources.inside(data_dir, self.folder, "image_folder: folder")):
            return ()
        _, *parts = self._parts(data_dir)
        return tuple(path for part in parts for path in part.paths())

    def load(self, data_dir: Path) -> Images:
        classes, train, test = self._parts(data_dir)
        faults: list[DataError] = []
        train_images, test_images = (_pixels(part, self.side, faults) for part in (train, test))
        _require_none(faults)
        return Images(train_images, train.labels, test_images, test.labels, classes)

    def _parts(self, data_dir: Path) -> tuple[tuple[str, ...], "_Part", "_Part"]:
        root = _sources.inside(data_dir, self.folder, "image_folder: folder")
        train = root / "train"
        test = root / "test" if os.path.lexists(root / "test") else root / "val"
        for path, names in ((train, "train"), (test, "test or val")):
            if not path.is_dir():
                rule = "must hold train/<class>/* and test/<class>/* (or val)"
                remedy = "Add it, or mend folder or data_dir."
                raise DataError(f"image_folder: {root} {rule}. Got no folder {names}. {remedy}")
        classes = tuple(entry.name for entry in _entries(train))
        unknown = {entry.name for entry in _entries(test)} - set(classes)
        if unknown:
            rule = "must hold no class that train lacks"
            raise DataError(f"image_folder: {test} {rule}. Got {min(unknown)!r}. Remove it, or add it to {train}.")
        return classes, _list_part(root, train, classes), _list_part(root, test, classes, may_be_missing=True)


class _Part(NamedTuple):
    """Train or test: M files relative to the root, in order, and their labels (M,) int64."""

    root: Path
    files: list[str]
    labels: NDArray[np.int64]

    def shape(self, side: int) -> tuple[int, int, int, int]:
        return len(self.files), 3, side, side

    def paths(self) -> Iterator[Path]:
        return (self.root / name for name in self.files)

    def cache(self, side: int) -> Path | None:
        """Path of the cached pixels, signed by this user for the stamps of all files; None without a key."""
        try:
            signature = owner.signature(f"{DECODING} {files.stamp(self.paths())}")
        except owner.Unusable:
            return None
        return self.root / f".cl_semisup-{side}-{self.files[0].partition('/')[0]}-{signature}.npy"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder without hidden files, sorted by name: the same on any file system."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"image_folder: {folder} must be a folder of images. Got {error.strerror}. Mend it.") from None


def _list_part(root: Path, folder: Path, classes: tuple[str, ...], may_be_missing: bool = False) -> _Part:
    """Every file of every class. With `may_be_missing` a class may have no image or no folder."""
    names: list[str] = []
    counts = []
    for name in classes:
        inside = folder / name
        entries = [] if may_be_missing and not os.path.lexists(inside) else _entries(inside)
        folders = [entry.name for entry in entries if os.path.isdir(entry)]  # of a loop of links `is_dir` raises
        if folders:
            raise DataError(f"image_folder: {inside} must hold images only. Got a folder {folders[0]!r}. Move it.")
        if not entries and not may_be_missing:
            raise DataError(f"image_folder: {inside} must hold an image. Got none. Add some, or remove the folder.")
        names += [f"{folder.name}/{name}/{entry.name}" for entry in entries]
        counts.append(len(entries))
    if not names:
        raise DataError(f"image_folder: {folder} must hold <class>/<image>. Got none. Add some.")
    return _Part(root, names, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


# decoded pixels and their cache ---------------------------------------------------------------------------------------


def _pixels(part: _Part, side: int, faults: list[DataError], keep: bool = True) -> NDArray[np.uint8]:
    """(M, 3, side, side), memory-mapped from the cache; in memory where none can be written, empty without `keep`.

    What is broken is added to `faults`; the pixels are then empty.
    """
    count = len(faults)
    pixels = _open_cache(part, side)
    if pixels is None and _write_cache(part, side, faults):
        pixels = _open_cache(part, side)
    if pixels is None and len(faults) == count:
        if keep:
            memory_limit.require(math.prod(part.shape(side)), f"image_folder: {part.root}, without a cache")
        chunks = [chunk for chunk in _chunks(part, side, faults) if keep]
        pixels = np.concatenate(chunks) if chunks and not faults else None
    return np.empty((0, 3, side, side), np.uint8) if pixels is None else pixels


def _require_none(faults: list[DataError]) -> None:
    """Raise them as one DataError that names the first ten."""
    lines = [str(fault) for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        lines.append(f"image_folder: {len(faults)} files are broken; the first {MAX_FAULTS} are named.")
    if lines:
        raise DataError(*lines)


def _open_cache(part: _Part, side: int) -> NDArray[np.uint8] | None:
    target = part.cache(side)
    if target is None or files.state(part.root, target) is None:  # a link is not followed
        return None
    try:
        pixels = npy.open_memmap(target, mode="c")
    except (OSError, ValueError, EOFError):  # truncated
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.shape == part.shape(side) else None


def _write_cache(part: _Part, side: int, faults: list[DataError]) -> bool:
    """Write the cache; False if that fails. Chunks are not mapped: a full disk is then an error and not a crash."""
    target = part.cache(side)
    if target is None:
        return False
    temporary = part.root / f".cl_semisup-{secrets.token_hex(8)}.tmp"  # several processes may write; the last one wins
    try:
        try:
            with open(temporary, "xb") as file:
                npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": part.shape(side)})
                file.writelines(chunk.data for chunk in _chunks(part, side, faults))
                file.flush()
                os.fsync(file.fileno())
            if faults or part.cache(side) != target:  # a file has changed meanwhile
                return False
            os.replace(temporary, target)
            _remove_old_caches(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:  # read-only or full; faults of an image are DataErrors
        return False
    return True


def _remove_old_caches(target: Path) -> None:
    """Remove this user's caches of the same part that are signed for other files, and unsigned ones."""
    current = CACHE.fullmatch(target.name)
    for path in files.entries(target.parent, target.parent):
        found, owner = CACHE.fullmatch(path.name), files.state(target.parent, path)
        if current and found and owner and found["mac"] != current["mac"]:
            ours = found["user"] == current["user"] and found["part"] == current["part"]
            if ours or (found["user"] is None and owner.st_uid == os.getuid()):
                files.remove(target.parent, path)


def _chunks(part: _Part, side: int, faults: list[DataError]) -> Iterator[NDArray[np.uint8]]:
    """(n, 3, side, side) of every CHUNK files, decoded in threads: PIL releases Python's lock.

    Adds what is broken to `faults`; from then on chunks lack images and are of no use.
    """
    Image.init()  # loads PIL's decoders, which several threads must not do at a time
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(part.files), CHUNK):
            paths = [part.root / name for name in part.files[start : start + CHUNK]]
            decoded = list(pool.map(_decoded, paths, [side] * len(paths)))
            faults += [image for image in decoded if isinstance(image, DataError)]
            if not faults:
                yield np.stack([image for image in decoded if not isinstance(image, DataError)])


def _decoded(path: Path, side: int) -> NDArray[np.uint8] | DataError:
    try:
        return _decode(path, side)
    except DataError as error:
        return error


def _decode(path: Path, side: int) -> NDArray[np.uint8]:
    """(3, side, side) of one file."""
    limit = Image.MAX_IMAGE_PIXELS
    try:
        file = files.open_regular(path)
    except OSError as error:
        reason = str(error.strerror).rpartition("Got ")[2]
        raise DataError(f"{path}: must be a file that can be read. Got {reason}. Mend or remove it.") from None
    try:
        with file, Image.open(file, formats=FORMATS) as image:
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError
            memory_limit.require(image.width * image.height * DECODING_BYTES, str(path))
            large = image.width * image.height > LARGE_PIXELS
            with _one_large_image if large else nullcontext():
                pixels = np.asarray(_centre_square(_rgb(image), side))  # (side, side, 3)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        rule = f"must have at most {limit} pixels, PIL's limit against decompression bombs"
        raise DataError(f"{path}: {rule}. Got more. Shrink or remove it.") from None
    except (DataError, MemoryError):
        raise
    except Exception as error:  # PIL's decoders raise nearly anything on broken files
        reason = f"{type(error).__name__}: {error}".rstrip(".").replace(repr(file), repr(str(path)))
        raise DataError(f"{path}: must be a whole image file. Got {reason}. Mend or remove it.") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white is unknown")
    if image.mode.startswith("I"):  # 16 bit; PIL's own conversion would clip at 255 and not scale
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("32-bit pixels, whose white is unknown")
        image = Image.fromarray(np.rint(grey / 257).astype(np.uint8))
    elif "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns when a palette's transparency is dropped in one step
    return image.convert("RGB")


def _centre_square(image: Image.Image, side: int) -> Image.Image:
    """As resizing the shorter side and cropping the centre, but a ribbon of 1 x 10,000 pixels never grows."""
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + short, top + short))
