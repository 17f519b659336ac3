"""Who works on what: a lease file each, so that several commands on one results folder share work, on any file system.

A lease is a file that only one can create (O_EXCL, which network file systems keep; locks they often do not). Its
holder touches it every few seconds. One that nobody touches, or whose process on this very machine is gone, was left by
a crash, and its next generation can be taken. Clocks are never compared: whoever waits watches for himself.

A holder that only slept finds its lease taken over and goes on: work is then done twice, with the same outcome.
"""

import contextlib
import os
import platform
import time
from functools import cache
from pathlib import Path

from cl_semisup.errors import ResultsError

BEAT_SECONDS = 10.0
MISSED = 6  # beats without which a holder counts as gone


class Claims:
    """Claims held by this process in a results folder; whoever holds some calls `beat` again and again."""

    def __init__(self, results: Path):
        self.folder = results / "claims"
        self._held: dict[str, int] = {}  # name -> generation
        self._watched: dict[
            Path, tuple[int, float]
        ] = {}  # another's lease -> its stamp, and since when it has been that
        self._beaten = time.monotonic()

    def take(self, name: str) -> bool:
        """Claim a name; False while another live process holds it."""
        generation = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while not _created(path := self._path(name, generation)):
                if not self._abandoned(path):
                    return False
                generation += 1
        except OSError as error:
            text = f"{self.folder}: {name} cannot be claimed: {error.strerror}. Check the results folder."
            raise ResultsError(text) from error
        self._held[name] = generation
        return True

    def beat(self) -> None:
        """Show that this process lives; cheap enough to be called in every loop."""
        if time.monotonic() - self._beaten < BEAT_SECONDS:
            return
        self._beaten = time.monotonic()
        for name, generation in self._held.items():
            with contextlib.suppress(OSError):  # a lease that is gone was taken over, which costs time and no result
                os.utime(self._path(name, generation))

    def release(self, name: str) -> None:
        """Give a claim back: what was left of crashed holders goes first, so that it stays held to the end."""
        for generation in range(self._held.pop(name) + 1):
            with contextlib.suppress(OSError):
                os.unlink(self._path(name, generation))

    def release_all(self) -> None:
        for name in list(self._held):
            self.release(name)

    def _path(self, name: str, generation: int) -> Path:
        return self.folder / f"{name}.{generation}.lease"

    def _abandoned(self, path: Path) -> bool:
        """Has its holder gone without releasing it?"""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:  # opening asks a file server anew
                where, _, pid = file.read(200).partition(" ")
                stamp = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return False  # just released; the next attempt will tell
        if where == place() and pid.isdecimal() and not _lives(int(pid)):
            return True
        now = time.monotonic()
        before, since = self._watched.get(path, (None, now))
        if stamp != before:
            self._watched[path] = (stamp, now)
            return False
        return now - since > MISSED * BEAT_SECONDS


def _created(path: Path) -> bool:
    """Make the file and say in it who holds it; False if it is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{place()} {os.getpid()}")
    except OSError:  # no space
        os.unlink(path)
        raise
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    return True


@cache
def place() -> str:
    """Where process numbers mean one thing: this machine since it was started, and the container in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return "".join(platform.node().split())
