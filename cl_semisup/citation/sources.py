"""The table of sources, and the sources that a plug-in's `Source:` entry names."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cl_semisup import plugins
from cl_semisup.plugins.docstrings import entry

TABLE = Path(__file__).parent / "sources.json"
OTHERS = "others"  # ends a list of authors that is not whole, as in BibTeX
_PARTICLES = ("van", "Van", "den", "da")
_ARXIV = re.compile(r"\b\d{4}\.\d{5}\b|\barXiv (\d{4}\.\d{4})\b")


@dataclass(frozen=True)
class Source:
    """A paper, a data set or a library.

    `name` is its arXiv id, or the words by which a `Source:` entry names it. `year` is that of the first version at
    arXiv, else of publication. `checked` is False where nothing but our notes says that the id has this title. Without
    a title the id is not in the table.
    """

    name: str
    title: str = ""
    authors: tuple[str, ...] = ()
    year: int = 0
    kind: str = "misc"  # of BibTeX
    published_in: str = ""
    checked: bool = True

    @property
    def is_arxiv(self) -> bool:
        return bool(re.fullmatch(r"\d{4}\.\d{4,5}", self.name))

    @property
    def short(self) -> str:
        """`Chen et al. 2020`."""
        if not self.authors:
            return self.name
        first, *more = (last_name(author) for author in self.authors)
        et_al = more[:1] == [OTHERS] or len(more) > 1
        return f"{first}{' et al.' if et_al else f' and {more[0]}' if more else ''} {self.year}"


def last_name(author: str) -> str:
    """With its particles: `van den Oord`."""
    words = author.split()
    start = next((i for i, word in enumerate(words[:-1]) if i and word in _PARTICLES), len(words) - 1)
    return " ".join(words[start:])


@cache
def table() -> dict[str, Source]:
    """Name -> source, of all that the plug-ins of this package name."""
    rows = json.loads(TABLE.read_text("utf-8"))
    return {
        name: Source(
            name,
            row["title"],
            tuple(row["authors"]),
            row["year"],
            row.get("kind", "misc"),
            row.get("in", ""),
            not row.get("unchecked", False),
        )
        for name, row in rows.items()
    }


def named_in(text: str) -> list[Source]:
    """The sources that a `Source:` entry names, in its order; arXiv ids that the table lacks have no title."""
    places = {name: text.find(name) for name, source in table().items() if not source.is_arxiv and name in text}
    for match in _ARXIV.finditer(text):
        places.setdefault(match.group(1) or match.group(), match.start())
    return [table().get(name, Source(name)) for name in sorted(places, key=places.__getitem__)]


def of_plugin(folder: str, name: str) -> list[Source]:
    """The sources of a plug-in."""
    return named_in(entry(plugins.docstring(folder, name), "Source"))
