"""What belongs to this user alone: a cache folder, and a key that tells the user's own files from a stranger's.

A results folder may come from elsewhere. The saved states and snapshots in it are signed with the key (HMAC-SHA-256),
and those of another key count as a stranger's. The key is a file in the cache folder, which no results folder contains.
"""

import hmac
import os
import secrets
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from cl_semisup import files

DIGEST_BYTES = 32
KEY_BYTES = 32


def cache_folder() -> Path:
    """The folder for files that only this user may write; OSError or RuntimeError (no home) if it cannot be made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cl_semisup"


def make_private(folder: Path) -> bool:
    """Make a folder, and say whether its owner is this user, who alone may write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


@cache
def key() -> bytes:
    """The user's key, made at the first call. Without a folder for it, the key of this process and those it starts."""
    fallback = Path(tempfile.gettempdir()) / f"cl_semisup-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    for folder in (cache_folder, lambda: fallback):
        with suppress(OSError, RuntimeError):
            home = folder()
            if make_private(home):
                return _key_in(home)
    return secrets.token_bytes(KEY_BYTES)


def sign(content: bytes, name: str = "") -> str:
    """The signature of a file's content, and of the name that it has to be found under, in 64 hex digits."""
    return hmac.new(key(), name.encode() + b"\0" + content, "sha256").hexdigest()


def _key_in(folder: Path) -> bytes:
    path = folder / "key"
    files.create(folder, path, secrets.token_bytes(KEY_BYTES), 0o600)
    deadline = time.monotonic() + 1.0
    while len(stored := files.read(folder, path, KEY_BYTES)) < KEY_BYTES:  # another process is writing it
        if time.monotonic() > deadline:  # or was killed while it did
            files.write(folder, path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        time.sleep(0.01)
    return stored
