"""Errors in words: the package's own classes are no words of a user's."""

from pathlib import Path

import pytest

from cl_semisup.errors import DataError, OutOfMemory, described
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
