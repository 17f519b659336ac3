"""Ctrl-C and SIGTERM: the first signal requests a stop with all states saved, a second Ctrl-C stops at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
IMPORT_SECONDS = 0.05  # delay before a signal that came during an import is sent again
ECHO_SECONDS = 0.5  # a wrapper may forward the terminal's Ctrl-C, so that the same one arrives twice


class Stopped(KeyboardInterrupt):
    """The command has stopped because of a signal; `exit_code` is 128 + the signal's number: 130 or 143."""

    def __init__(self, number: int):
        self.exit_code = 128 + number
        super().__init__(signal.Signals(number).name)


class Request:
    """A context within which the first signal makes this object true; a second SIGINT raises Stopped at once."""

    def __init__(self) -> None:
        self.number = 0
        self._first_signal_time = 0.0

    def __bool__(self) -> bool:
        return self.number != 0

    def __call__(self, number: int, frame: Any) -> None:
        if self.number and number == signal.SIGINT and time.monotonic() - self._first_signal_time > ECHO_SECONDS:
            raise Stopped(number)
        if not self.number:
            self.number, self._first_signal_time = number, time.monotonic()

    def __enter__(self) -> "Request":
        self._handling = _handle_signals(self)
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)


@contextmanager
def at_once() -> Iterator[None]:
    """Within, a signal raises Stopped at once; for times when no run is executed.

    A signal during an import is delayed until its end, since torch aborts the process if its import is interrupted.
    """

    def stop(number: int, frame: Any) -> None:
        if not _importing(frame):
            raise Stopped(number)
        again = partial(os.kill, os.getpid(), number)
        if os.name == "nt":  # there os.kill ends the process
            again = partial(signal.raise_signal, number)
        timer = threading.Timer(IMPORT_SECONDS, again)
        timer.daemon = True
        timer.start()

    with _handle_signals(stop):
        yield


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _handle_signals(handler: Any) -> Iterator[None]:
    """Within, signals call this handler; no effect outside the main thread, where Python forbids it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = {number: signal.signal(number, handler) for number in SIGNALS} if in_main_thread else {}
    try:
        yield
    finally:
        for number, previous_handler in previous.items():
            signal.signal(number, previous_handler)
