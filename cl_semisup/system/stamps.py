"""Stamps of files: what the system knows of them changes with their content, and is read in no time."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

TICK_NS = 50_000_000  # of file systems' clocks, with room to spare


def stamp(paths: Iterable[Path | str]) -> str:
    """64 hex digits that change with any of these files, from their names, sizes, times and inodes alone.

    A file's ctime cannot be set by a program, so neither `mv` nor a copy that keeps times can go unnoticed. A file
    that was written just now could be written again within the same tick of the clock, so this waits for the next one.
    """
    listed = list(paths)
    states = _settled(lambda: [_state_or_none(path) for path in listed])
    return _digest(zip(map(os.fsencode, listed), states, strict=True))


def stamp_of(file: BinaryIO) -> str:
    """The same of one open file, whatever its name is."""
    return _digest([(b"", _settled(lambda: [os.fstat(file.fileno())])[0])])


def _settled(look: Callable[[], list[os.stat_result | None]]) -> list[os.stat_result | None]:
    """The states of files, once the clock has gone on since the last change."""
    states = look()
    newest = max((found.st_ctime_ns for found in states if found), default=0)
    if 0 <= time.time_ns() - newest < TICK_NS:
        time.sleep(TICK_NS / 1e9)
        states = look()
    return states


def _digest(named: Iterable[tuple[bytes, os.stat_result | None]]) -> str:
    digest = hashlib.sha256()
    for name, found in named:
        facts = found and (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        digest.update(name + f"\0{facts}\n".encode())
    return digest.hexdigest()


def _state_or_none(path: Path | str) -> os.stat_result | None:
    with suppress(OSError):
        return os.stat(path)
    return None
