"""Sealed files: content, then the HMAC-SHA-256 of their name and content with the user's key.

A stranger, or an accident, may put other content under the right name: what lacks its seal is not used. Of a large file
the seal is computed once; as long as the file's stamp is the same, the cache folder remembers that it was right.
"""

import hashlib
import hmac
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cl_semisup.system import files, owner, stamps

SEAL_BYTES = 32
FOLDER = "seals"  # in the cache folder
CHUNK_BYTES = 2**20
STAMP_BYTES = 64


def start(name: str) -> "hmac.HMAC":
    """To be updated with the file's content; its digest is the seal. `name` is that of the file."""
    return hmac.new(owner.key(), os.fsencode(name) + b"\0", "sha256")


def of(name: str, *pieces: bytes) -> bytes:
    """The seal of a file of this name and content."""
    seal = start(name)
    for piece in pieces:
        seal.update(piece)
    return seal.digest()


def is_right(file: BinaryIO, path: Path) -> bool:
    """Does the open file end with its seal? `path` is where it lies."""
    stamp = stamps.stamp_of(file)
    with suppress(OSError, owner.Unusable):
        home = owner.folder()
        if files.read(home, _note(home, path), STAMP_BYTES, alone=True).decode() == stamp:
            return True
    size = os.fstat(file.fileno()).st_size
    left, seal = size - SEAL_BYTES, start(path.name)
    file.seek(0)
    while left > 0 and (piece := file.read(min(left, CHUNK_BYTES))):
        seal.update(piece)
        left -= len(piece)
    right = left == 0 and hmac.compare_digest(file.read(SEAL_BYTES), seal.digest())
    if right and stamps.stamp_of(file) == stamp:
        remember(file, path)
    return right


def remember(file: BinaryIO, path: Path) -> None:
    """The open file, which lies at `path`, has the right seal."""
    with suppress(OSError, owner.Unusable):  # then its seal is computed each time
        home = owner.folder()
        files.write(home, _note(home, path), stamps.stamp_of(file).encode(), mode=0o600)


def forget(path: Path) -> None:
    """The file is removed."""
    with suppress(OSError, owner.Unusable):
        home = owner.folder()
        files.remove(home, _note(home, path))


def _note(home: Path, path: Path) -> Path:
    return home / FOLDER / hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
