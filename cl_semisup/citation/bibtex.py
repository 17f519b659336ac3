"""Sources as BibTeX entries."""

import re
import unicodedata
from collections.abc import Iterable

from cl_semisup.citation.sources import Source, last_name
from cl_semisup.version import __version__

_FIELDS = {"title": r"{cl\_semisup}", "author": r"{the cl\_semisup authors}", "note": f"Version {__version__}"}
PACKAGE = "@misc{cl_semisup,\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in _FIELDS.items()) + "\n}\n"
_PLACE = {"inproceedings": "booktitle", "article": "journal", "techreport": "institution", "book": "publisher"}
_SMALL = {"a", "an", "the", "on", "in", "of", "do", "is", "with", "from", "what", "why", "to"}
_SPECIAL = re.compile(r"([&%$#_])")


def entry(source: Source, used_by: Iterable[str] = ()) -> str:
    """One entry; `used_by` (`losses.nt_xent`, ...) goes into its annotation."""
    fields = {
        "title": f"{{{_escaped(source.title or f'arXiv:{source.name}')}}}",
        "author": " and ".join(_escaped(_last_first(author)) for author in source.authors),
        "year": str(source.year or ""),
        _PLACE.get(source.kind, "howpublished"): _escaped(source.published_in),
        "eprint": source.name if source.is_arxiv else "",
        "archivePrefix": "arXiv" if source.is_arxiv else "",
        "annote": _escaped(", ".join(used_by)),
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@{source.kind}{{{key(source)},\n{lines}\n}}\n"


def key(source: Source) -> str:
    """`chen2020simple`: the first author, the year, the first long word of the title."""
    if not source.title:
        return f"arxiv{source.name}"
    words = (word for word in re.findall(r"[a-z0-9]+", _ascii(source.title)) if word not in _SMALL)
    first = re.sub(r"[^a-z]", "", _ascii(source.authors[0].split()[-1]))
    return f"{first}{source.year}{next(words)}"


def _last_first(author: str) -> str:
    """`Chen, Ting`; an organisation and `others` stay."""
    last = last_name(author)
    first = author.removesuffix(last).strip()
    if "contributors" in author:
        return f"{{{author}}}"
    return f"{last}, {first}" if first else author


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
