"""The docstrings of plug-ins: a first line, paragraphs, formulas, then entries such as `Source:` and `Args:`."""

import re
from collections.abc import Mapping

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


def arguments(docstring: str, names: set[str]) -> dict[str, str]:
    """What the docstring's `Args:` section says of these names."""
    descriptions: dict[str, str] = {}
    last = None
    for line in docstring.partition("Args:")[2].splitlines():
        word, colon, text = line.strip().partition(":")
        if colon and word in names:
            last, descriptions[word] = word, text.strip()
        elif last and line.strip():
            descriptions[last] += " " + line.strip()
        else:
            last = None
    return descriptions


def _texts(docstring: str) -> dict[str, str]:
    starts = list(_START.finditer(docstring))
    ends = [start.start() for start in starts[1:]] + [len(docstring)]
    return {start.group(1): docstring[start.end() : end] for start, end in zip(starts, ends, strict=False)}


def titles(summaries: Mapping[str, str]) -> dict[str, str]:
    """What first lines call the plug-ins before a colon -> name, of several the first: {"SimCLR": "nt_xent", ...}."""
    found = [
        (title.strip(), name)
        for name, summary in summaries.items()
        for title in re.split("[(),]", summary.partition(":")[0])
    ]
    return {title: name for title, name in reversed(found) if title}
