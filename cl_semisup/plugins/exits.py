"""What ends a process without a word: `os._exit`, which may look like success, and timers of the system.

A call of users' own plug-ins that asks for it fails instead, like one that raises SystemExit.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

PACKAGE = __name__.partition(".")[0]
_files: set[str] = set()  # of plug-ins, as their code names them
_processes: set[int] = set()  # that import them; their copies are none
_leave = os._exit


def refuse(path: Path) -> None:
    """From now on `os._exit` raises SystemExit where this file's code asks for it. Copies of the process may exit."""
    _files.add(str(path))
    _processes.add(os.getpid())
    os._exit = exit_or_fail  # type: ignore[assignment]


def are_refused() -> bool:
    """Has the code of a user's own plug-in come into this process?"""
    return bool(_files)


def exit_or_fail(status: int) -> None:
    """`os._exit` of a process that has imported a plug-in; a function of the module, so that it can be pickled."""
    caller = sys._getframe(1)
    ours = str(caller.f_globals.get("__name__")).partition(".")[0] == PACKAGE
    if ours or os.getpid() not in _processes or not _is_users(caller):
        _leave(status)
    raise SystemExit(f"os._exit({status!r})")


def _is_users(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename in _files:
            return True
        frame = frame.f_back
    return False


@contextmanager
def without_timers() -> Iterator[None]:
    """Timers of the system that are started within are stopped at its end: one that runs out kills the process."""
    names = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, "getitimer") else ()  # not on Windows
    idle = [number for name in names if not signal.getitimer(number := getattr(signal, name))[0]]
    try:
        yield
    finally:
        for number in idle:
            signal.setitimer(number, 0)
