"""Ctrl-C and a scheduler's SIGTERM: the first is heeded at a good moment, a second Ctrl-C ends all at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
IMPORT_SECONDS = 0.05  # until a signal that came during an import is tried again
ECHO_SECONDS = 0.5  # a wrapper passes the terminal's Ctrl-C on, so the same one can come twice


class Stopped(KeyboardInterrupt):
    """The command was asked to stop and has stopped; `exit_code` is 130 or 143, as shells and schedulers have it."""

    def __init__(self, number: int):
        self.exit_code = 128 + number
        super().__init__(signal.Signals(number).name)


class Request:
    """While entered, the first signal is noted here; it is true from then on. A second SIGINT raises where it comes."""

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0

    def __bool__(self) -> bool:
        return self.number != 0

    def __call__(self, number: int, frame: Any) -> None:
        if self.number and number == signal.SIGINT and time.monotonic() - self._since > ECHO_SECONDS:
            raise Stopped(number)
        if not self.number:
            self.number, self._since = number, time.monotonic()

    def __enter__(self) -> "Request":
        self._before = _handled(self)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def at_once() -> Iterator[None]:
    """Within, a signal raises Stopped where it comes: nothing is computed yet, or no more.

    During an import it waits for the import's end: torch's own code aborts the process if one is interrupted.
    """

    def stop(number: int, frame: Any) -> None:
        if not _importing(frame):
            raise Stopped(number)
        again = threading.Timer(IMPORT_SECONDS, os.kill, [os.getpid(), number])
        again.daemon = True
        again.start()

    before = _handled(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _handled(handler: Any) -> dict[int, Any]:
    """Install a handler; what was there before. Python lets the main thread alone do so."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in SIGNALS}
