"""The end of the command's process: what a user's own plug-in has left running does not hold it up."""

import os
import sys
import threading
from typing import NoReturn

from cl_semisup.plugins import exits
from cl_semisup.text import show

WAIT_SECONDS = 10.0  # for threads and exit handlers of plug-ins


def end(code: int) -> NoReturn:
    """End this process with an exit code. Python waits for threads and exit handlers, we do not wait for ever."""
    if exits.are_refused():
        timer = threading.Timer(WAIT_SECONDS, _leave, [code])
        timer.daemon = True
        timer.start()
    sys.exit(code)


def _leave(code: int) -> None:
    show(f"A thread or an exit handler of a plug-in has not ended after {WAIT_SECONDS:g} s: left alone.", error=True)
    sys.stdout.flush()
    os._exit(code)
