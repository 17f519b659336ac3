"""The docstrings of plug-ins: a first line, paragraphs, formulas, then entries such as `Source:` and `Args:`."""

import re

ENTRIES = ("Source", "Difference", "Degenerate", "Group", "Args")
_START = re.compile(rf"^({'|'.join(ENTRIES)}):", re.MULTILINE)


def entry(docstring: str, name: str) -> str:
    """The text of an entry on one line; "" if there is none."""
    return " ".join(_texts(docstring).get(name, "").split())


def body(docstring: str) -> str:
    """Everything after the first line and before the first entry."""
    text = docstring.partition("\n")[2]
    start = _START.search(text)
    return (text[: start.start()] if start else text).strip("\n")


def _texts(docstring: str) -> dict[str, str]:
    starts = list(_START.finditer(docstring))
    ends = [start.start() for start in starts[1:]] + [len(docstring)]
    return {start.group(1): docstring[start.end() : end] for start, end in zip(starts, ends, strict=False)}
