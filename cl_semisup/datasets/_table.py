"""Tables of files and labels: CSV, TSV, or lines `path label`. Read as text, row by row."""

import csv
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cl_semisup import files
from cl_semisup.errors import DataError, first_ten

MAX_BYTES = 500_000_000  # of a table: some five million rows
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}


class Row(NamedTuple):
    """One image: the line it stands on, its file, its label ("" if it has none), and train, test or val."""

    line: int
    file: str
    label: str
    split: str


def read(path: Path, columns: tuple[str, str, str], split: str = "", what: str = "") -> list[Row]:
    """The rows of a table.

    Args:
        path: ends in .csv (`,` or `;`), .tsv, or otherwise has lines `path label` without a heading
        columns: names of the columns of file, label and split
        split: the part that all rows belong to; "" where the column tells it
        what: name of the setting, for messages
    """
    content = lines(path, what)
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = _of_columns(path, content, columns, split, what)
    else:
        rows = _of_lines(path, content, split or "train", what)
    if not rows:
        raise DataError(f"{what}: {path}: must name an image. Got no row. Add some.")
    return rows


def _of_columns(path: Path, content: list[str], columns: tuple[str, str, str], split: str, what: str) -> list[Row]:
    heading = content[0] if content else ""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;", key=heading.count)
    reader = csv.reader(content, delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        needed = columns[:2] if split else columns
        settings = ("file_column", "label_column", "split_column")
        for setting, name in zip(settings, needed, strict=False):
            if names.count(name) != 1:
                got = f"the columns {first_ten(names)}" if name not in names else f"{name!r} twice"
                raise DataError(f"{what}: {path}:1: must have one column {name!r}. Got {got}. Set `{setting}`.")
        places = [names.index(name) for name in needed]
        rows, broken = [], []
        for cells in reader:
            if len(cells) == len(names):
                cell = [cells[place].strip() for place in places]
                rows.append(Row(reader.line_num, cell[0], cell[1], split or cell[2]))
            elif any(cells):
                broken.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{what}: {path}:{reader.line_num}: must be a table. Got {error}. Mend the line.") from None
    if broken:
        rule = f"every line must have {len(names)} cells, as the heading has"
        raise DataError(
            f"{what}: {path}: {rule}. Got {len(broken)} that have not, lines {first_ten(broken)}. Mend them."
        )
    return rows if split else _with_known_splits(rows, path, columns[2], what)


def _with_known_splits(rows: Sequence[Row], path: Path, column: str, what: str) -> list[Row]:
    unknown = sorted({row.split for row in rows if row.split.lower() not in SPLITS})
    if unknown:
        rule = f"column {column!r} must say {', '.join(SPLITS)}"
        raise DataError(f"{what}: {path}: {rule}. Got {first_ten(unknown)}. Rename them.")
    return [row._replace(split=SPLITS[row.split.lower()]) for row in rows]


def _of_lines(path: Path, content: list[str], split: str, what: str) -> list[Row]:
    """Lines `path label`; the path may hold spaces, the label none."""
    rows, broken = [], []
    for number, line in enumerate(content, start=1):
        if not line.strip():
            continue
        words = line.rsplit(maxsplit=1)
        if len(words) == 2:
            rows.append(Row(number, words[0].strip(), words[1], split))
        else:
            broken.append(number)
    if broken:
        got = f"{len(broken)} that are not, lines {first_ten(broken)}"
        raise DataError(f"{what}: {path}: every line must be `path label`. Got {got}. Mend them.")
    return rows


def lines(path: Path, what: str) -> list[str]:
    """The lines of a text file."""
    try:
        with files.open_regular(path, MAX_BYTES) as file:
            return file.read(MAX_BYTES).decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise DataError(f"{what}: {path}: must be a text that can be read. Got {files.reason(error)}.") from None
    except UnicodeDecodeError as error:
        remedy = "Convert it: iconv -f latin1 -t utf-8"
        raise DataError(f"{what}: {path}: must be text in UTF-8. Got {error.reason}. {remedy}.") from None


def class_list(path: Path, known: Collection[str], what: str) -> tuple[str, ...]:
    """The classes that a text file lists, sorted: a line is one of the `known`, or begins with one (`n0144 tench`)."""
    named = [line.strip() for line in lines(path, what) if line.strip()]
    found = [line if line in known else line.split()[0] for line in named]
    twice = sorted(name for name, count in Counter(found).items() if count > 1)
    if twice or not found:
        got = f"{first_ten(twice)} again" if twice else "none"
        raise DataError(f"{what}: {path}: must name each class once. Got {got}. Run: sort -u {path.name}.")
    missing = [name for name in found if name not in known]
    if missing:
        got = f"{len(missing)} that are not: {first_ten(missing)}"
        raise DataError(f"{what}: {path}: every line must be a class of the data. Got {got}. Mend the list.")
    return tuple(sorted(found))
