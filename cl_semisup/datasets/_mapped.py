"""Image files as one memory-mapped file of uint8 pixels, made once beside the data and read from disk as needed.

Several processes share its pages. While it is made it is called `.part`: an interrupted command goes on where it ended.
"""

import fcntl
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cl_semisup import files, owner
from cl_semisup.data import memory_limit
from cl_semisup.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # not PIL's EPS, which would start a program
CHUNK = 1024  # images decoded before they are written: 12 MB at 64 pixels
CHUNK_BYTES = 64_000_000  # of larger images fewer are decoded before they are written
DECODING_BYTES = 12  # of memory that a pixel takes while it is decoded
LARGE_PIXELS = 4_000_000  # images with more are decoded one at a time
MAX_FAULTS = 10  # broken files that are named
BAR_DELAY_SECONDS = 2.0  # less work shows no bar
DECODING = 1  # increase it when the same file gives other pixels, so that caches are rebuilt


# a cache signed by a user, or one of an earlier version, which is not signed
CACHE = re.compile(
    r"\.cl_semisup-\d+-(?:(?P<part>[a-z]+[0-9.]*)-(?P<user>[0-9a-f]{8})(?P<mac>[0-9a-f]{32})|[0-9a-f]{16})\.(npy|part)"
)
_one_large_image = Lock()


class Part(NamedTuple):
    """A part of a data set: M files relative to the root, in order, and their labels (M,) int64, -1 for none.

    Parts of one folder that hold different files have different names.
    """

    root: Path
    name: str
    files: list[str]
    labels: NDArray[np.int64]

    def shape(self, side: int) -> tuple[int, int, int, int]:
        return len(self.files), 3, side, side

    def paths(self) -> Iterator[Path]:
        return (self.root / name for name in self.files)

    def rows(self, name: str, chosen: NDArray[np.bool_]) -> "Part":
        """Some of the files, as a part of another name."""
        return Part(
            self.root, name, [f for f, taken in zip(self.files, chosen, strict=True) if taken], self.labels[chosen]
        )

    def cache(self, side: int) -> Path | None:
        """Path of the mapped pixels, signed by this user for the stamps of all files; None without a key."""
        try:
            signature = owner.signature(f"{DECODING} {files.stamp(self.paths())}")
        except owner.Unusable:
            return None
        return self.root / f".cl_semisup-{side}-{self.name}-{signature}.npy"


def pixels(part: Part, side: int, faults: list[DataError], keep: bool = True) -> NDArray[np.uint8]:
    """(M, 3, side, side), memory-mapped from the cache; in memory where none can be written, empty without `keep`.

    What is broken is added to `faults`; the pixels are then empty. Mapped pixels can be read and not written.
    """
    count = len(faults)
    found = _open_cache(part, side)
    if found is None and _write_cache(part, side, faults):
        found = _open_cache(part, side)
    if found is None and len(faults) == count:
        if keep:
            memory_limit.require(math.prod(part.shape(side)), f"image_folder: {part.root}, without a cache")
        chunks = [chunk for chunk in _chunks(part, side, faults) if keep]
        found = np.concatenate(chunks) if chunks and not faults else None
    return np.empty((0, 3, side, side), np.uint8) if found is None else found


def require_none(faults: list[DataError]) -> None:
    """Raise them as one DataError that names the first ten."""
    lines = [str(fault) for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        lines.append(f"image_folder: {len(faults)} files are broken; the first {MAX_FAULTS} are named.")
    if lines:
        raise DataError(*lines)


def _open_cache(part: Part, side: int) -> NDArray[np.uint8] | None:
    target = part.cache(side)
    if target is None or files.state(part.root, target) is None:  # a link is not followed
        return None
    try:
        mapped = npy.open_memmap(target, mode="r")  # private writable pages would count as this process's own memory
    except (OSError, ValueError, EOFError):  # truncated
        return None
    return mapped if mapped.dtype == np.uint8 and mapped.shape == part.shape(side) else None


def _write_cache(part: Part, side: int, faults: list[DataError]) -> bool:
    """Write the cache; False if that fails. Chunks are not mapped: a full disk is then an error and not a crash.

    One process writes at a time, others wait for it. What an interrupted one has written is kept and continued.
    """
    target = part.cache(side)
    if target is None:
        return False
    partial = target.with_suffix(".part")
    try:
        with _open_partial(partial) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _open_cache(part, side) is not None:  # another process has made it meanwhile
                return True
            try:
                done = _continue(file, part, side)
                for chunk in _chunks(part, side, faults, done):
                    file.write(chunk.data)
                file.flush()
                os.fsync(file.fileno())
                if faults or part.cache(side) != target:  # a file has changed meanwhile
                    partial.unlink(missing_ok=True)
                    return False
                os.replace(partial, target)
            except Exception:  # but not KeyboardInterrupt or SystemExit, after which the work is continued
                partial.unlink(missing_ok=True)
                raise
        _remove_old_caches(target)
    except OSError:  # read-only or full; faults of an image are DataErrors
        return False
    return True


def _open_partial(path: Path) -> BinaryIO:
    """The unfinished file, made if there is none; OSError if it is a link, no regular file, or another user's."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        os.close(descriptor)
        raise OSError("must be a regular file of this user")
    return open(descriptor, "r+b")


def _continue(file: BinaryIO, part: Part, side: int) -> int:
    """Write the header unless it is there, drop a chunk that is not whole, and say how many images there are."""
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": part.shape(side)})
    header, size = head.getvalue(), os.fstat(file.fileno()).st_size
    if file.read(len(header)) != header:
        file.seek(0)
        file.truncate()
        file.write(header)
        return 0
    image, chunk = 3 * side * side, _chunk_images(side)
    done = (size - len(header)) // image // chunk * chunk
    file.seek(len(header) + done * image)
    file.truncate()
    return int(done)


def _remove_old_caches(target: Path) -> None:
    """Remove this user's caches of the same part that are signed for other files, and unsigned ones."""
    current = CACHE.fullmatch(target.name)
    for path in files.entries(target.parent, target.parent):
        found, owner = CACHE.fullmatch(path.name), files.state(target.parent, path)
        if current and found and owner and found["mac"] != current["mac"]:
            ours = found["user"] == current["user"] and found["part"] == current["part"]
            if ours or (found["user"] is None and owner.st_uid == os.getuid()):
                files.remove(target.parent, path)


def _chunk_images(side: int) -> int:
    return max(1, min(CHUNK, CHUNK_BYTES // (3 * side * side)))


def _chunks(part: Part, side: int, faults: list[DataError], done: int = 0) -> Iterator[NDArray[np.uint8]]:
    """(n, 3, side, side) of every chunk of files from number `done` on, decoded in threads: PIL releases Python's lock.

    Adds what is broken to `faults`; from then on chunks lack images and are of no use.
    """
    Image.init()  # loads PIL's decoders, which several threads must not do at a time
    size, total = _chunk_images(side), len(part.files)
    text = f"decoding {part.name} once"
    bar = tqdm(total=total, initial=done, desc=text, unit=" images", disable=None, delay=BAR_DELAY_SECONDS, leave=False)
    with bar, ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(done, total, size):
            paths = [part.root / name for name in part.files[start : start + size]]
            decoded = list(pool.map(_decoded, paths, [side] * len(paths)))
            bar.update(len(decoded))
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
