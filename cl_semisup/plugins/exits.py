"""What ends a process without a word: `os._exit`, which may look like success, and timers of the system.

A call of users' own plug-ins that asks for it fails instead, like one that raises SystemExit.
"""

import os
import signal
import sys
from functools import cache
from pathlib import Path
from types import FrameType

PACKAGE = __name__.partition(".")[0]
_files: set[str] = set()  # of plug-ins, as their code names them


def refuse(path: Path) -> None:
    """From now on `os._exit` raises SystemExit where this file's code asks for it. Copies of the process may exit."""
    _files.add(str(path))
    _replace()


def are_refused() -> bool:
    """Has the code of a user's own plug-in come into this process?"""
    return bool(_files)


@cache
def _replace() -> None:
    process, leave = os.getpid(), os._exit

    def exit_or_fail(status: int) -> None:
        caller = sys._getframe(1)
        ours = str(caller.f_globals.get("__name__")).partition(".")[0] == PACKAGE
        if ours or os.getpid() != process or not _is_users(caller):
            leave(status)
        raise SystemExit(f"os._exit({status!r})")

    os._exit = exit_or_fail  # type: ignore[assignment]


def _is_users(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename in _files:
            return True
        frame = frame.f_back
    return False


def timers() -> dict[int, bool]:
    """The system's timers for this process, and whether they run. One that ends kills the process by a signal."""
    names = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, "getitimer") else ()  # not on Windows
    return {getattr(signal, name): signal.getitimer(getattr(signal, name))[0] > 0 for name in names}


def stop_timers(before: dict[int, bool]) -> None:
    """Stop those timers that did not run before."""
    for number, ran in before.items():
        if not ran:
            signal.setitimer(number, 0)
