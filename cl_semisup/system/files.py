"""Files that may come from strangers: only regular files are opened, without waiting, and up to a size that is told.

Functions that take a `root` never follow a link below it. A results folder may come from elsewhere, and a link in it
must neither be read through nor lead a write or a removal to another place. `root` itself is named by the user and may
be a link. Windows opens no folders: there each part of a path is looked at before it is used, and whoever can write to
the folder could change it in between. Errors are OSErrors.
"""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

_BY_DESCRIPTOR = os.open in os.supports_dir_fd  # not on Windows
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_OWN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _OWN
_READ = os.O_RDONLY | _OWN | getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not wait for a writer
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OWN | _NO_LINK
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_KINDS |= {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link"}
INSIDE = "_"  # stands for whatever is in a folder that is opened itself
_MAX_SAFETENSORS_HEADER = 100_000_000  # bytes
_LARGE_EXPONENT, _LONG_NUMBER = re.compile(rb"e\+?\d\d\d"), re.compile(rb"\d{300}")


class Refused(OSError):
    """A file that is not read: its message says what is there instead, so it can follow the word `Got`."""

    def __str__(self) -> str:
        return str(self.strerror)


class BehindLink(Refused):
    """A file or folder below the root is a link, or lies behind one."""

    def __init__(self, path: Path, name: str):
        super().__init__(errno.ELOOP, f"the link {name!r} in its path", str(path))


def open_regular(path: Path | str, limit: int | None = None) -> BinaryIO:
    """A regular file of the user's own, opened for reading; links are followed. Pipes and devices are refused."""
    return _checked(os.open(path, _READ), path, limit)


def read(root: Path, path: Path, limit: int, alone: bool = False) -> bytes:
    """The content of a regular file of at most `limit` bytes below `root`.

    With `alone` a file that others may write to is refused.
    """
    with open_below(root, path, limit) as file:
        if alone and not only_this_user_writes(os.fstat(file.fileno())):
            raise Refused(errno.EPERM, "a file that others may write to", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:  # it grew meanwhile
        raise Refused(errno.EFBIG, f"more than the {limit} bytes that are read", str(path))
    return content


def is_zip(file: IO[bytes]) -> bool:
    """Does it end as a zip archive does? One whose end contradicts itself counts too: `open_zip` says what is wrong."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return True


def open_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """An archive to read from; BadZipFile also where two members have one name: readers differ in which they take."""
    archive = zipfile.ZipFile(file)
    if (again := twice(archive.namelist())) is not None:
        raise zipfile.BadZipFile(f"two members of one name, {again!r:.200}")
    return archive


def twice(names: Iterable[str]) -> str | None:
    """The first name that is there more than once, found in one pass: a stranger's file may have a million."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def check_safetensors(file: BinaryIO) -> None:
    """ValueError where the header of a safetensors file is no JSON or names a tensor twice: readers take the last."""
    size = int.from_bytes(file.read(8), "little")
    if size <= _MAX_SAFETENSORS_HEADER:  # the package refuses others
        parse_json(file.read(size))


def open_own(path: Path) -> BinaryIO:
    """A file of this user's, made if there is none, opened to be read and written from its start.

    OSError if it is a link, no regular file, or another user's.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _OWN | _NO_LINK, 0o644)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or not is_own(found):
        os.close(descriptor)
        raise OSError("must be a regular file of this user")
    return open(descriptor, "r+b")


def is_own(found: os.stat_result) -> bool:
    """Does the file belong to this user? Windows does not tell: there every file does."""
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()


def only_this_user_writes(found: os.stat_result) -> bool:
    """Does a file or folder belong to this user, and may nobody else write to it? Windows does not tell."""
    return is_own(found) and not (hasattr(os, "getuid") and found.st_mode & 0o022)


def lock(file: BinaryIO) -> None:
    """Wait until no other process holds this file's lock; it ends with the file. Windows has none of this kind."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)


def open_below(root: Path, path: Path, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes below `root`, opened for reading."""
    with _parent(root, path) as (folder, name):
        return _checked(_open(name, folder, path), path, limit)


def read_json(root: Path, path: Path, limit: int) -> Any:
    """The value in a JSON file below `root`. Raises what `read` and `parse_json` raise."""
    return parse_json(read(root, path, limit))


def parse_json(content: bytes) -> Any:
    """The value of JSON text. ValueError for NaN, infinity, a duplicate key, deep nesting and what is no UTF-8."""
    text = content.decode()
    decode = _decode_large if may_overflow(content) else _decode
    try:
        value = decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if "\\ud" in text.lower():  # may hold half a surrogate pair, which cannot be encoded
        json.dumps(value, ensure_ascii=False).encode()
    return value


def may_overflow(content: bytes) -> bool:
    """Could a number of this JSON text be infinite, as 1e999 is? Two searches are faster than one for either."""
    return bool(_LARGE_EXPONENT.search(content) or b"E" in content or _LONG_NUMBER.search(content))


def reason(error: Exception) -> str:
    """What is wrong with a file, without its path."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def write(root: Path, path: Path, *pieces: bytes | memoryview, mode: int = 0o644) -> None:
    """Write a file below `root`, whole or not at all: a new file beside it, flushed, renamed over the target."""
    with _parent(root, path, create=True) as (folder, name):
        temporary = os.path.join(os.path.dirname(name), f".tmp-{path.stem}.{secrets.token_hex(6)}")
        descriptor = os.open(temporary, _NEW, mode, dir_fd=folder)
        try:
            with open(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        with contextlib.suppress(OSError):  # some file systems cannot flush a folder; the file is whole in any case
            if folder is not None:
                os.fsync(folder)


def create(root: Path, path: Path, content: bytes, mode: int = 0o644) -> bool:
    """Make a file that is not there yet, and say whether this call made it; only one of several callers can."""
    with _parent(root, path, create=True) as (folder, name):
        try:
            descriptor = os.open(name, _NEW, mode, dir_fd=folder)
        except FileExistsError:
            return False
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
        except OSError:  # no space
            os.unlink(name, dir_fd=folder)
            raise
    return True


def remove(root: Path, path: Path) -> None:
    """Remove a file below `root`, or the link that stands in its place; a folder in its place stays."""
    with contextlib.suppress(FileNotFoundError), _parent(root, path) as (folder, name):
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)


def make_folder(root: Path, folder: Path) -> None:
    """Make a folder below `root`, and those around it, unless it is there; BehindLink where one of them is a link."""
    with _parent(root, folder / INSIDE, create=True):
        pass


def touch(root: Path, path: Path) -> None:
    """Set a file's times to now."""
    with _parent(root, path) as (folder, name):
        os.utime(name, dir_fd=folder, follow_symlinks=os.utime not in os.supports_follow_symlinks)


def state(root: Path, path: Path) -> os.stat_result | None:
    """What the system knows of a regular file below `root`; None where there is none."""
    with contextlib.suppress(OSError), _parent(root, path) as (folder, name):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def entries(root: Path, folder: Path) -> list[Path]:
    """The entries of a folder below `root`, sorted; [] where there is no folder, or a link in its place."""
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError, BehindLink),
        _parent(root, folder / INSIDE) as (inside, _),
    ):
        return [folder / name for name in sorted(os.listdir(folder if inside is None else inside))]
    return []


@contextmanager
def _parent(root: Path, path: Path, create: bool = False) -> Iterator[tuple[int | None, str]]:
    """(descriptor of the file's folder, name of the file), reached from `root` without following a link.

    Where folders cannot be opened, None and the whole path.
    """
    *folders, name = path.relative_to(root).parts
    if ".." in (*folders, name):
        raise OSError(errno.EINVAL, f"must lie in {root}", str(path))
    if create:
        root.mkdir(parents=True, exist_ok=True)
    if not _BY_DESCRIPTOR:
        _check_folders(root, folders, path, create)
        yield None, str(path)
        return
    descriptor = os.open(root, _FOLDER)
    try:
        for part in folders:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
            inner = _open_folder(part, descriptor, path)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    except OSError as error:
        if error.filename == str(path):
            raise
        named = path.parent if path.name == INSIDE else path  # the system names the last part alone
        raise OSError(error.errno, error.strerror, str(named)) from error
    finally:
        os.close(descriptor)


def _check_folders(root: Path, folders: list[str], path: Path, create: bool) -> None:
    """Raise an OSError unless `root` and the folders inside it are there, or could be made, and none is a link."""
    inner = root
    for part in ("", *folders):
        inner = inner / part
        if create:
            inner.mkdir(exist_ok=True)
        mode = (inner.lstat() if part else inner.stat()).st_mode
        if stat.S_ISLNK(mode):
            raise BehindLink(path, part)
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _finite(word: str) -> float:
    if not math.isfinite(number := float(word)):
        raise ValueError(f"{word:.40} is no number")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"the key {twice(name for name, _ in pairs)!r:.40} is there twice")
    return members


_decode_large = json.JSONDecoder(
    parse_constant=_finite, parse_float=_finite, object_pairs_hook=_without_duplicates
).decode
_decode = json.JSONDecoder(parse_constant=_finite, object_pairs_hook=_without_duplicates).decode


def _open_folder(name: str, folder: int, path: Path) -> int:
    try:
        return os.open(name, _FOLDER | _NO_LINK, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise BehindLink(path, name) from None
        raise


def _open(name: str, folder: int | None, path: Path) -> int:
    if folder is None and os.path.islink(name):
        raise BehindLink(path, path.name)
    try:
        return os.open(name, _READ | _NO_LINK, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BehindLink(path, name) from None
        raise


def _checked(descriptor: int, path: Path | str, limit: int | None) -> BinaryIO:
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
            raise Refused(errno.EINVAL, f"{kind}, not a regular file", str(path))
        if limit is not None and found.st_size > limit:
            got = f"{found.st_size} bytes, more than the {limit} that are read"
            raise Refused(errno.EFBIG, got, str(path))
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
