"""Text of strangers on its way to a terminal, a table or a page: it must not steer, reorder or fake lines."""

import sys
import unicodedata
from html import escape
from typing import TextIO

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


def _degrade(stream: TextIO | None) -> None:
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
