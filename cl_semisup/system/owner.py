"""What belongs to this user alone: a cache folder, and a key that tells the user's own files from a stranger's.

A results folder may come from elsewhere. The saved states and snapshots in it, and caches of pixels beside data, are
signed with the key (HMAC-SHA-256); those of another key count as a stranger's. The key is a file in the cache folder,
which no results folder contains. Nobody else may enter this folder, and of the files in it only those are believed that
this user alone may write to: whoever can write to a folder around it can put another one in its place.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from cl_semisup.system import files

KEY_BYTES = 32


class Unusable(Exception):
    """Why there is no such folder here, and what to do about it."""


def folder() -> Path:
    """The cache folder, made if it is missing; an absolute path. Its files are executed or believed."""
    try:
        return _private(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "cl_semisup")
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        raise Unusable(f"no folder can be made for them: {error}. Set XDG_CACHE_HOME to one of yours.") from error


def key() -> bytes:
    """The user's key, made at the first call. Without a folder for it, the key of this process and those it starts."""
    with suppress(Unusable):
        return _key_in(folder())
    return _fallback_key()


@cache
def _fallback_key() -> bytes:
    """In the system's folder for temporary files, where anybody could have made a link."""
    with suppress(OSError, Unusable):
        path = Path(tempfile.gettempdir()) / f"cl_semisup-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        if not path.is_symlink():
            return _key_in(_private(path))
    return secrets.token_bytes(KEY_BYTES)


def signature(text: str) -> str:
    """40 hex digits that only this user can make for a text: 8 name the user's key, 32 are the text's HMAC.

    Unusable where no key can be kept: what is signed with another one would never be used again.
    """
    own = _key_in(folder())
    return hashlib.sha256(own).hexdigest()[:8] + hmac.new(own, text.encode(), "sha256").hexdigest()[:32]


def _private(path: Path) -> Path:
    """Make a folder that only this user may enter, and those around it; Unusable if it is another's."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
    found = path.stat()
    if not files.only_this_user_writes(found):
        raise Unusable(f"{path} must be writable by its owner, who must be you, alone. Mend its mode.")
    if _others_may_read(found):
        with suppress(OSError):  # of a file system without modes
            path.chmod(0o700)
    return path


@cache
def _key_in(home: Path) -> bytes:
    path = home / "key"
    deadline = time.monotonic() + 1.0
    try:
        if not files.create(home, path, secrets.token_bytes(KEY_BYTES), 0o600) and not _is_secret(home, path):
            files.write(home, path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        while len(stored := files.read(home, path, KEY_BYTES)) < KEY_BYTES:  # another process is writing it
            if time.monotonic() > deadline:  # or was killed while it did
                files.write(home, path, secrets.token_bytes(KEY_BYTES), mode=0o600)
            time.sleep(0.01)
    except OSError as error:
        raise Unusable(f"{path}: no key can be kept: {error.strerror}. Set XDG_CACHE_HOME to one of yours.") from error
    return stored


def _is_secret(home: Path, path: Path) -> bool:
    """Is the key a file of this user's that nobody else may read? What lies behind a link, others may know."""
    try:
        with files.open_below(home, path, KEY_BYTES) as file:
            found = os.fstat(file.fileno())
    except OSError:
        return False
    without_modes = _others_may_read(home.stat())  # even after they were set
    return files.is_own(found) and found.st_nlink == 1 and (without_modes or not _others_may_read(found))


def _others_may_read(found: os.stat_result) -> bool:
    return hasattr(os, "getuid") and bool(found.st_mode & 0o077)
