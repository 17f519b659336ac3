"""Copies of a process, which a plug-in makes that forks: none may go on with our work beside it, or answer for it.

A copy does what the plug-in wants of it, the work of a helper for instance. Where it would return from the plug-in's
code to the code of this package, it ends, whatever kind of plug-in was called, and where.
"""

import contextlib
import os
import sys
from functools import cache
from types import FrameType
from typing import Any

PACKAGE = __name__.partition(".")[0]
ENDED = 86  # the exit code of a copy that has ended here


@cache
def end_where_they_return() -> None:
    """From now on copies of this process end so. Called before the code of a user's own plug-in comes in."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_forget_ended, after_in_child=_end_at_return)


def _end_at_return() -> None:
    """In the copy: end it as soon as the function of this package gets control again that led to the fork."""
    forking = sys._getframe(1)
    if _package(forking) in (PACKAGE, "multiprocessing"):
        return  # ours; or a process of `multiprocessing`, which ends by itself
    ours: FrameType | None = forking
    while ours is not None and _package(ours) != PACKAGE:
        ours = ours.f_back
    if ours is None:  # a thread of the plug-in's own
        return

    def end(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_back is ours:  # an exception that goes through is a return, too
            os._exit(ENDED)

    sys.setprofile(end)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _forget_ended() -> None:
    """Ended copies stay in the system's table until this process asks for them. It asks for no other child."""
    if not hasattr(os, "waitid"):
        return
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and child.si_status == ENDED:
            os.waitpid(child.si_pid, 0)
