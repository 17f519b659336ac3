"""Who works on what: one lease file each, so that several commands on one results folder share the work.

A lease is created with O_EXCL, so only one process can create it. Network file systems keep to O_EXCL; locks they often
do not support. The holder touches its lease every few seconds. A lease is abandoned if nobody touches it any more, or
if its process ran on this machine and is gone; then another process takes it over. Clocks of machines are never
compared: a process that waits for a lease watches it by its own clock.

If a holder only slept, its lease is taken over and it goes on: the work is then done twice, with the same result.
"""

import contextlib
import os
import platform
import time
from functools import cache
from pathlib import Path

from cl_semisup.errors import ResultsError
from cl_semisup.system import files

HEARTBEAT_SECONDS = 10.0
MAX_MISSED_HEARTBEATS = 6  # after these a holder counts as gone
MAX_LEASE_BYTES = 1000


class Claims:
    """Claims that this process holds in a results folder; the holder must call `heartbeat` again and again."""

    def __init__(self, results: Path):
        self.results, self.folder = results, results / "claims"
        self._held: dict[str, int] = {}  # name -> number of takeovers before, which is part of the lease's file name
        self._watched: dict[Path, tuple[int, float]] = {}  # lease of another process -> its mtime, seen first at
        self._last_heartbeat = time.monotonic()

    def take(self, name: str) -> bool:
        """Claim a name; False while another live process holds it."""
        takeovers = 0
        try:
            holder = f"{host_id()} {os.getpid()}".encode()
            while not files.create(self.results, path := self._path(name, takeovers), holder):
                if not self._is_abandoned(path):
                    return False
                takeovers += 1
        except OSError as error:
            text = f"{self.folder}: {name} cannot be claimed: {error.strerror}. Check the results folder."
            raise ResultsError(text) from error
        self._held[name] = takeovers
        return True

    def heartbeat(self) -> None:
        """Touch all leases held, at most every HEARTBEAT_SECONDS; cheap enough to be called in every loop."""
        if time.monotonic() - self._last_heartbeat < HEARTBEAT_SECONDS:
            return
        self._last_heartbeat = time.monotonic()
        for name, takeovers in self._held.items():
            with contextlib.suppress(OSError):  # a lease that is gone was taken over, which costs time and no result
                files.touch(self.results, self._path(name, takeovers))

    def release(self, name: str) -> None:
        """Give a claim back. Leases of crashed holders are deleted before our own, which guards the name till last."""
        for takeovers in range(self._held.pop(name) + 1):
            with contextlib.suppress(OSError):
                files.remove(self.results, self._path(name, takeovers))

    def release_all(self) -> None:
        for name in list(self._held):
            self.release(name)

    def _path(self, name: str, takeovers: int) -> Path:
        return self.folder / f"{name}.{takeovers}.lease"

    def _is_abandoned(self, path: Path) -> bool:
        """Has the holder gone without releasing its lease?"""
        try:
            with files.open_below(self.results, path, MAX_LEASE_BYTES) as file:  # a file server then looks anew
                host, _, pid = file.read().decode(errors="replace").partition(" ")
                mtime = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False  # just released; the next attempt will take it
        if host == host_id() and pid.isdecimal() and not _is_alive(int(pid)):
            return True
        now = time.monotonic()
        last_mtime, since = self._watched.get(path, (None, now))
        if mtime != last_mtime:
            self._watched[path] = (mtime, now)
            return False
        return now - since > MAX_MISSED_HEARTBEATS * HEARTBEAT_SECONDS


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and another user's
    return True


@cache
def host_id() -> str:
    """The scope in which process ids are unique: this machine since its last boot, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return "".join(platform.node().split())
