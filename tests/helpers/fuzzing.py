"""What fuzz tests share: how many cases there are, what became of each, how long it took and what memory it needed.

`benchmarks/fuzz.py` runs the same tests with many more cases (FUZZ in the environment) and prints TALLIES.
"""

import functools
import os
import signal
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from cl_semisup.text import HIDDEN

HANG_SECONDS = 30.0  # a case that takes longer hangs
MARKS = ("\x1b[2J", "\n", "\r", "\x07", "\x9b1m", "\u202e", "\u2066", "\u200e", "\u2028", "\x85", "\ufeff", "\x7f")
"""Text that steers a terminal, fakes a line or turns its order round."""


@dataclass
class Tally:
    """What became of the cases of one kind; seconds and bytes are those of the worst one that imports nothing."""

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    crashes: int = 0
    hangs: int = 0
    seconds: float = 0.0
    memory: int = 0


TALLIES: dict[str, Tally] = {}


class Hang(BaseException):
    """Raised in a case that takes too long; no `except Exception` catches it."""


def fuzz(what: str, short: int = 150, share: int = 1, **strategies: st.SearchStrategy[Any]) -> Callable[..., Any]:
    """A test of many generated cases. It returns whether the case was accepted, and raises only if it is not handled.

    Args:
        what: the kind of its cases, in words
        short: number of cases in an ordinary run of the tests
        share: in the long form, one for so many that are asked for
    """
    asked = os.environ.get("FUZZ")
    many = max(5, int(asked) // share) if asked else short
    options = hypothesis.settings(
        max_examples=many, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False
    )

    def decorate(test: Callable[..., bool]) -> Any:
        @functools.wraps(test)
        def counted(*args: Any, **kwargs: Any) -> None:
            _count(TALLIES.setdefault(what, Tally()), lambda: test(*args, **kwargs))

        return pytest.mark.fuzz(options(hypothesis.given(**strategies)(counted)))

    return decorate


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file in which up to four places hold other bytes, perhaps cut."""
    content = bytearray(whole)
    for at, piece in draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=4)), max_size=4)
    ):
        content[at : at + len(piece)] = piece
    return bytes(content[: draw(st.one_of(st.none(), st.integers(0, len(whole))))])


def hidden(shown: str) -> set[str]:
    """Characters that would steer a terminal or reorder a line."""
    return {c for c in shown if unicodedata.category(c) in HIDDEN and c not in "\n\t"}


def _count(tally: Tally, case: Callable[[], bool]) -> None:
    tally.cases += 1
    modules, before, began = len(sys.modules), _memory(start=True), time.perf_counter()
    try:
        with _interrupted_after(HANG_SECONDS):
            accepted = case()
    except hypothesis.errors.HypothesisException:  # its own, such as a case that it leaves out
        tally.cases -= 1
        raise
    except Hang as hang:
        tally.hangs += 1
        raise AssertionError(f"took longer than {HANG_SECONDS} s") from hang
    except BaseException:
        tally.crashes += 1
        raise
    tally.accepted, tally.refused = tally.accepted + accepted, tally.refused + (not accepted)
    if len(sys.modules) == modules:  # importing torch takes seconds and 0.5 GB, once a process
        tally.seconds = max(tally.seconds, time.perf_counter() - began)
        tally.memory = max(tally.memory, _memory() - before)


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raise Hang after so many seconds; another timer, as pytest-timeout's, goes on afterwards."""

    def stop(*_: object) -> None:
        raise Hang

    handler = signal.signal(signal.SIGALRM, stop)
    began, (left, _) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - began)))


def _memory(start: bool = False) -> int:
    """Bytes of this process now, with the peak forgotten, at the `start`; else its peak since. 0 where nobody tells."""
    try:
        if start:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:" if start else "VmHWM:"))
