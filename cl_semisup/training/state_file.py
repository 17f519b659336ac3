"""The file of a training's state: a keyed digest (HMAC-SHA-256) followed by the payload. This module needs no torch.

The digest also covers the file's name. A state that is damaged, of another training, or made with another key is not
read, so a results folder from elsewhere cannot bring states that seem to be results of this machine.
"""

import hmac
from pathlib import Path

from cl_semisup.system import files
from cl_semisup.text import show, visible

DIGEST_BYTES = 32
CHUNK_BYTES = 2**20
MAX_BYTES = 2**35


def write(path: Path, payload: bytes | memoryview, key: bytes) -> None:
    """Write the file, whole or not at all. Neither the file nor its folder may be a link."""
    digest = _start(path, key)
    digest.update(payload)
    files.write(path.parents[1], path, digest.digest(), payload)


def read(path: Path, key: bytes) -> bytes | None:
    """The payload; None if there is no file, or, with a line that says so, if it cannot be trusted."""
    try:
        with files.open_below(path.parents[1], path, MAX_BYTES) as file:
            stored, digest = file.read(DIGEST_BYTES), _start(path, key)
            while chunk := file.read(CHUNK_BYTES):  # a stranger's file is never in memory as a whole
                digest.update(chunk)
            if hmac.compare_digest(stored, digest.digest()):
                file.seek(DIGEST_BYTES)
                return file.read()
        problem = "damaged, or made elsewhere"
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = files.reason(error)
    show(f"{visible(path)}: the saved state is not continued: {problem}. The run starts anew.", error=True)
    return None


def _start(path: Path, key: bytes) -> "hmac.HMAC":
    return hmac.new(key, path.name.encode() + b"\0", "sha256")
