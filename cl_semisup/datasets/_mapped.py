"""Image files as one memory-mapped file of uint8 pixels, made once beside the data and read from disk as needed.

Several processes share its pages. While it is made it is called `.part`: an interrupted command goes on where it ended.
"""

import io
import math
import os
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from cl_semisup.data import memory_limit
from cl_semisup.datasets import _pixels
from cl_semisup.datasets._decoder import Decoder, bar
from cl_semisup.datasets._pixels import PixelSettings, Source
from cl_semisup.errors import DataError
from cl_semisup.system import files, owner, seal, stamps
from cl_semisup.system.cgroups import usable_cores

CHUNK = 4096  # images decoded before they are written: 50 MB at 64 pixels
CHUNK_BYTES = 64_000_000  # of larger images fewer are decoded before they are written
MAX_FAULTS = 10  # broken files that are named
ADDED = ("channels", "fit", "white", "orientation", "frames")  # settings that change pixels, beside the side
DECODING = 1  # increase it when the same file gives other pixels, so that caches are rebuilt


# a cache signed by a user, or one of an earlier version, which is not signed
CACHE = re.compile(
    r"\.cl_semisup-\d+-(?:(?P<part>[a-z]+[0-9.]*)-(?P<user>[0-9a-f]{8})(?P<mac>[0-9a-f]{32})|[0-9a-f]{16})\.(npy|part)"
)


class Part(NamedTuple):
    """A part of a data set: M files relative to the root, in order, and their labels (M,) int64, -1 for none.

    Parts of one folder that hold different files have different names.
    """

    root: Path
    name: str
    files: list[str]
    labels: NDArray[np.int64]

    def shape(self, s: PixelSettings) -> tuple[int, int, int, int]:
        return len(self.files), s.bands, s.side, s.side

    def paths(self) -> Iterator[Path]:
        return (self.root / name for name in self.files)

    def sources(self, start: int = 0, stop: int | None = None) -> list[Source]:
        return [_pixels.of_file(path) for path in self._texts(start, stop)]

    def stamp(self) -> str:
        """Hex digits that change with any of the files."""
        return stamps.stamp(self._texts())

    def _texts(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Paths as text, because a hundred thousand `Path`s take a second to make."""
        root = f"{self.root}{os.sep}"
        return (root + name for name in self.files[start:stop])

    def rows(self, name: str, chosen: NDArray[np.bool_]) -> "Part":
        """Some of the files, as a part of another name."""
        return Part(
            self.root, name, [f for f, taken in zip(self.files, chosen, strict=True) if taken], self.labels[chosen]
        )

    def cache(self, s: PixelSettings, train: "Part") -> Path | None:
        """Path of the mapped pixels, signed by this user for settings and stamps of all files; None without a key.

        `train` is the part that tells the white of the data, if that is asked for.
        """
        content = f"{DECODING} {self.stamp()}"
        added = "".join(f" {key}={value}" for key, value in vars(s).items() if key in ADDED and value is not None)
        content += added
        name = self.name + (f".{zlib.crc32(added.encode())}" if added else "")  # kept beside that of other settings
        content += f" {train.stamp()}" if s.white == "data" else ""
        try:
            signature = owner.signature(content)
        except owner.Unusable:
            return None
        return self.root / f".cl_semisup-{s.side}-{name}-{signature}.npy"


def pixels(
    part: Part, s: PixelSettings, train: Part, faults: list[DataError], what: str, keep: bool = True
) -> NDArray[np.uint8]:
    """(M, channels, side, side), mapped from the cache; in memory where none can be written, empty without `keep`.

    What is broken is added to `faults`; the pixels are then empty. Mapped pixels are read-only. `train` is the
    part that tells the white of the data, `what` the data set's name for messages.
    """
    count = len(faults)
    target = part.cache(s, train)
    found = _open_cache(target, part, s)
    if target and found is None and _write_cache(target, part, s, train, faults):
        found = _open_cache(target, part, s)
    if found is None and len(faults) == count:
        if keep:
            memory_limit.require(math.prod(part.shape(s)), f"{what}: {part.root}, without a cache")
        chunks = [chunk for chunk in _chunks(part, s, train, faults) if keep]
        found = np.concatenate(chunks) if chunks and not faults else None
    return np.empty((0, s.bands, s.side, s.side), np.uint8) if found is None else found


def require_none(faults: list[DataError], what: str) -> None:
    """Raise them as one DataError that names the first ten. `what` is the data set's name."""
    lines = [str(fault) for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        lines.append(f"{what}: {len(faults)} files are broken; the first {MAX_FAULTS} are named.")
    if lines:
        raise DataError(*lines)


def _open_cache(target: Path | None, part: Part, s: PixelSettings) -> NDArray[np.uint8] | None:
    """The pixels in a file that ends with this user's seal; None where there is no such file."""
    if target is None:
        return None
    header, shape = _header(part, s), part.shape(s)
    size = len(header) + math.prod(shape) + seal.SEAL_BYTES
    try:
        with files.open_below(part.root, target, size) as file:  # a link is not followed
            if os.fstat(file.fileno()).st_size != size or file.read(len(header)) != header:
                return None
            if not seal.is_right(file, target):
                return None
            return np.memmap(file, np.uint8, "r", len(header), shape)  # private writable pages would count as memory
    except (OSError, ValueError):  # no file; no images, which cannot be mapped
        return None


def _write_cache(target: Path, part: Part, s: PixelSettings, train: Part, faults: list[DataError]) -> bool:
    """Write the cache; False if that fails. Chunks are not mapped: a full disk is then an error and not a crash.

    One process writes at a time, others wait for it. What an interrupted one has written is kept and continued.
    """
    unfinished = target.with_suffix(".part")
    try:
        with files.open_own(unfinished) as file:
            files.lock(file)
            if _open_cache(target, part, s) is not None:  # another process has made it meanwhile
                return True
            try:
                sealed = seal.start(target.name)
                done = _continue(file, part, s, sealed.update)
                with closing(_chunks(part, s, train, faults, done)) as chunks:
                    for chunk in chunks:
                        file.write(chunk.data)
                        sealed.update(chunk.data)
                file.write(sealed.digest())
                file.flush()
                os.fsync(file.fileno())
                if faults or part.cache(s, train) != target:  # a file has changed meanwhile
                    unfinished.unlink(missing_ok=True)
                    return False
                os.replace(unfinished, target)
                seal.remember(file, target)
            except Exception:  # but not KeyboardInterrupt or SystemExit, after which the work is continued
                unfinished.unlink(missing_ok=True)
                raise
        _remove_old_caches(target)
    except OSError:  # read-only or full; faults of an image are DataErrors
        return False
    return True


def _continue(file: BinaryIO, part: Part, s: PixelSettings, seen: Callable[[bytes], object]) -> int:
    """Write the header unless it is there, drop a chunk that is not whole, and say how many images there are.

    `seen` is given all bytes that the file then has.
    """
    header, size = _header(part, s), os.fstat(file.fileno()).st_size
    seen(header)
    if file.read(len(header)) != header:
        file.seek(0)
        file.truncate()
        file.write(header)
        return 0
    image, chunk = s.bands * s.side**2, _chunk_images(s)
    done = min(len(part.files), (size - len(header)) // image) // chunk * chunk
    for _ in range(done // chunk):
        seen(file.read(chunk * image))
    file.truncate()
    return done


def _header(part: Part, s: PixelSettings) -> bytes:
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": part.shape(s)})
    return head.getvalue()


def _remove_old_caches(target: Path) -> None:
    """Remove this user's caches of the same part that are signed for other files, and unsigned ones."""
    current = CACHE.fullmatch(target.name)
    for path in files.entries(target.parent, target.parent):
        found, owner = CACHE.fullmatch(path.name), files.state(target.parent, path)
        if current and found and owner and found["mac"] != current["mac"]:
            ours = found["user"] == current["user"] and found["part"] == current["part"]
            if ours or (found["user"] is None and files.is_own(owner)):
                files.remove(target.parent, path)
                seal.forget(path)


def _chunk_images(s: PixelSettings) -> int:
    return max(1, min(CHUNK, CHUNK_BYTES // (s.bands * s.side**2)))


def _chunks(
    part: Part, s: PixelSettings, train: Part, faults: list[DataError], done: int = 0
) -> Generator[NDArray[np.uint8], None, None]:
    """(n, channels, side, side) of every chunk of files from number `done` on.

    Adds what is broken to `faults`; from then on chunks lack images and are of no use.
    """
    size, total = _chunk_images(s), len(part.files)
    s, clip = _with_white(s, train, faults)
    with (
        bar(f"decoding {part.name} once", total, done) as progress,
        Decoder(s, clip, total - done, progress, faults) as decoder,
    ):
        for start in range(done, total, size):
            sources = part.sources(start, start + size)
            images = np.empty((len(sources), s.bands, s.side, s.side), np.uint8)
            decoder.fill(images, sources)
            if not faults:
                yield images


def _with_white(s: PixelSettings, train: Part, faults: list[DataError]) -> tuple[PixelSettings, bool]:
    """The settings with a number for `white: data`, the brightest training pixel; whether brighter ones are clipped."""
    if s.white != "data":
        return s, False
    white, found = brightest(train.sources(), s)
    faults += found
    return replace(s, white=white), True


def brightest(sources: Sequence[Source], s: PixelSettings) -> tuple[float, list[DataError]]:
    """The largest pixel value of some images, and what is wrong with those that cannot be read."""

    def value(source: Source) -> float | DataError:
        try:
            return _pixels.brightest(source, s)
        except DataError as error:
            return error

    Image.init()
    with ThreadPoolExecutor(min(16, usable_cores())) as pool:
        values = list(pool.map(value, sources))
    faults = [found for found in values if isinstance(found, DataError)]
    return max((found for found in values if not isinstance(found, DataError) and found > 0), default=1.0), faults
