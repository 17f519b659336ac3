"""Text of strangers on its way to a terminal, a table or a page: it must not steer, reorder or fake lines."""

import builtins
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from html import escape
from typing import Any, TextIO

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (bidi, zero width), half a surrogate pair, line separators


def visible(text: object, keep: str = "") -> str:
    r"""One line: each hidden character as its escape, `\x1b` for instance. Characters of `keep` stay as they are."""
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_escaped(c) if unicodedata.category(c) in HIDDEN and c not in keep else c for c in plain)


def visible_lines(text: object) -> str:
    """The same for text that may have lines and tabs of its own."""
    return visible(text, keep="\n\t")


def one_line(text: object) -> str:
    """White space as single spaces, other hidden characters as escapes, for cells and sentences of a report."""
    return visible(" ".join(str(text).split()))


def html(text: object) -> str:
    """Text that HTML and SVG show as it is."""
    return escape(visible_lines(text))


def show(text: object, error: bool = False) -> None:
    """Print lines to stdout, or to stderr. Nothing else prints."""
    print(visible_lines(text), file=sys.stderr if error else sys.stdout, flush=True)


def degrade_streams() -> None:
    """What a terminal's or a pipe's encoding lacks is printed as an escape and never fails."""
    for stream in (sys.stdout, sys.stderr):
        _degrade(stream)


@contextmanager
def guarded() -> Iterator[None]:
    """Around the code of plug-ins: what it prints is shown as other text of strangers is, and no print of it fails.

    Built-in functions that it replaces are put back: what tells its errors needs them.
    """
    degrade_streams()  # a worker has streams of its own
    live, before = vars(builtins), dict(vars(builtins))
    with redirect_stdout(_guarded(sys.stdout)), redirect_stderr(_guarded(sys.stderr)):
        try:
            yield
        finally:
            live.update(before)


class _Guarded:
    """A stream that shows control characters as escapes. A line that draws itself anew is a line each time."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible_lines(text.replace("\r\n", "\n").replace("\r", "\n")))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _guarded(stream: TextIO | None) -> Any:
    return stream if stream is None or isinstance(stream, _Guarded) else _Guarded(stream)


def _degrade(stream: TextIO | None) -> None:
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
