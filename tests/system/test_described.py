"""Errors in words: the package's own classes are no words of a user's."""

from pathlib import Path

import pytest

from cl_semisup.errors import DataError, OutOfMemory, ProcessMustStop, described, stops_process
from cl_semisup.execution.stop import Stopped
from cl_semisup.system.files import BehindLink, Refused


class Odd(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(22, "a named pipe, not a regular file", "x.npz"), "a named pipe, not a regular file"),
        (BehindLink(Path("a/b"), "a"), "the link 'a' in its path"),
        (DataError("x.npz: must be whole. Got half."), "x.npz: must be whole. Got half."),
        (OutOfMemory("no room"), "no room"),
        (ValueError(" odd "), "ValueError: odd"),
        (FileNotFoundError(2, "No such file", "x"), "FileNotFoundError: [Errno 2] No such file: 'x'"),
        (AssertionError(), "AssertionError: no reason given"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_the_class_is_told_of_other_people_s_errors_alone(error: BaseException, words: str) -> None:
    assert described(error) == words


def test_an_error_without_a_text_is_told_by_its_class() -> None:
    assert described(Odd()) == "Odd: no reason given"


class OddClass(type):
    """A class that does not tell its name or module."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise KeyboardInterrupt

    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise SystemExit


class OfOddClass(BaseException, metaclass=OddClass):
    """An error of such a class."""


class Leaving(Exception):
    """An error whose text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(5)


class Interrupted(KeyboardInterrupt):
    """A plug-in's own."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OfOddClass("text"), "OfOddClass: text"),
        (Leaving(), "Leaving: no reason given"),
        (Interrupted("own"), "Interrupted: own"),
    ],
)
def test_an_error_runs_no_code_that_ends_the_command(error: BaseException, words: str) -> None:
    assert not stops_process(error)
    assert described(error) == words


def test_a_signal_stops_the_process() -> None:
    assert stops_process(Stopped(15)) and stops_process(ProcessMustStop())
