"""Who works on which run: one locked file a run in progress, so that several commands on one results folder share work.

The operating system drops a lock with its process, however that ends; a claim left by a crash is free again at once.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from cl_semisup.errors import ResultsError


class Claims:
    """Claims held by this process in a results folder."""

    def __init__(self, results: Path):
        self.folder = results / "claims"
        self._held: dict[str, int] = {}

    def take(self, run_id: str) -> bool:
        """Claim a run; False while another live process holds it."""
        path = self.folder / f"{run_id}.lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    return False
                if _is_current(descriptor, path):
                    self._held[run_id] = descriptor
                    return True
                os.close(descriptor)  # its last holder removed the file after we had opened it
        except OSError as error:
            raise ResultsError(
                f"{path}: a run cannot be claimed: {error.strerror}. Check the results folder."
            ) from error

    def release(self, run_id: str) -> None:
        """Give a run back; its file goes while the lock is still held, so no two processes can hold one claim."""
        descriptor = self._held.pop(run_id)
        with contextlib.suppress(OSError):
            os.unlink(self.folder / f"{run_id}.lock")
        os.close(descriptor)

    def release_all(self) -> None:
        for run_id in list(self._held):
            self.release(run_id)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _is_current(descriptor: int, path: Path) -> bool:
    """Is the locked file still the one that the path names?"""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
