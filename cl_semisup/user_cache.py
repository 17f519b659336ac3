"""The folder of this user's caches, `~/.cache/cl_semisup` or under XDG_CACHE_HOME. Only this user may write to it."""

import hashlib
import hmac
import os
import secrets
import time
from functools import cache
from pathlib import Path

from cl_semisup import files

KEY_BYTES = 32


class Unusable(Exception):
    """Why there is no such folder here, and what to do about it."""


def folder() -> Path:
    """The folder, made if it is missing. Its files are executed or believed, so nobody else may write to it."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cl_semisup"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = home.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        raise Unusable(f"no folder can be made for them: {error}. Set XDG_CACHE_HOME to one of yours.") from error
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        raise Unusable(f"{home} must be writable by its owner, who must be you, alone. Mend its mode.")
    return home


def signature(text: str) -> str:
    """40 hex digits that only this user can make for a text: 8 name the user's key, 32 are the text's HMAC."""
    key = _key(folder())
    return hashlib.sha256(key).hexdigest()[:8] + hmac.new(key, text.encode(), "sha256").hexdigest()[:32]


@cache
def _key(home: Path) -> bytes:
    """The user's key, drawn once; its file has mode 0600."""
    path = home / "key"
    try:
        for _ in range(20):  # another process may be writing it now
            files.create(home, path, secrets.token_bytes(KEY_BYTES), mode=0o600)
            key = files.read(home, path, KEY_BYTES)
            if len(key) == KEY_BYTES:
                return key
            time.sleep(0.05)
    except OSError as error:
        raise Unusable(f"{path}: no key can be kept: {error.strerror}. Set XDG_CACHE_HOME to one of yours.") from error
    raise Unusable(f"{path}: must hold {KEY_BYTES} bytes. Got {len(key)}. Remove it.")
