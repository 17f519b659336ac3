"""Tables of files and labels: CSV, TSV, or lines `path label`. Read as text, row by row."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cl_semisup.data import memory_limit
from cl_semisup.datasets import _folders, _other_formats
from cl_semisup.errors import DataError, first_ten
from cl_semisup.system import files

MANY_COLUMNS = 64  # more are pixels
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
WORDS = {
    "file_column": ("file", "path", "image", "img", "name"),
    "image_column": ("image", "img", "pic", "photo"),
    "label_column": ("label", "class", "target", "breed", "species", "category"),
    "split_column": ("split", "set", "train", "part", "fold"),
}
MAX_BYTES = 500_000_000  # of a table: some five million rows
MAX_LIST_BYTES = 10_000_000  # of a list of classes
ROW_BYTES = 400  # that a row takes in memory, beside its text
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}


class Row(NamedTuple):
    """One image: the line it stands on, its file ("" in a table of labels alone), its label ("" if none), its part."""

    line: int
    file: str
    label: str
    split: str


def read(path: Path, columns: tuple[str, str, str], split: str = "", what: str = "") -> list[Row]:
    """The rows of a table.

    Args:
        path: ends in .csv (`,`, `;`, `|` or tabs) or .tsv, else has lines `path label`, or `label`, without a heading
        columns: names of the columns of file, label and split
        split: the part that all rows belong to; "" where the column tells it
        what: name of the setting, for messages
    """
    if remedy := _other_formats.table_remedy(path):
        raise DataError(f"{what}: {path}: must be a CSV, a TSV, or lines of text. Got neither. Make one: {remedy}.")
    content = lines(path, what)
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = _of_columns(path, content, columns, split, what)
    else:
        rows = _of_lines(path, content, split or "train", what)
    if not rows:
        raise DataError(f"{what}: {path}: must name an image. Got no row. Add some.")
    return rows


def _of_columns(path: Path, content: list[str], columns: tuple[str, str, str], split: str, what: str) -> list[Row]:
    if content and content[0].lower().startswith("sep="):  # what Excel writes for itself
        content = content[1:]
    heading = content[0] if content else ""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=heading.count)
    reader = csv.reader(content, delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        needed = columns[:2] if split else columns
        settings = ("file_column", "label_column", "split_column")
        for setting, name in zip(settings, needed, strict=False):
            if names.count(name) != 1:
                got = f"the columns {first_ten(names)}" if name not in names else f"{name!r} twice"
                remedy = _remedy(path, names, setting, delimiter, [cells for cells in reader if cells])
                raise DataError(f"{what}: {path}:1: must have one column {name!r}. Got {got}. {remedy}.")
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


def _remedy(path: Path, names: Sequence[str], setting: str, delimiter: str, rows: Sequence[Sequence[str]]) -> str:
    """What mends a table that lacks a column."""
    if any(map(_folders.is_image_file, names)):
        heading = delimiter.replace("\t", "\\t").join(("file", "label", "split")[: len(names)])
        return f"Give it a heading: `sed -i '1i {heading}'`"
    cells = [{row[n] for row in rows if n < len(row)} for n in range(len(names))]
    ones = [name for name, held in zip(names, cells, strict=True) if "1.0" in held or "1" in held]
    ones = [n for n in ones if cells[names.index(n)] <= {"0", "1", "0.0", "1.0"}]
    if setting == "label_column" and len(ones) > 1:
        return f"Make one of them: `table['label'] = table[{ones[:3]}].idxmax(axis=1)`" + (
            f", of all {len(ones)}" if len(ones) > 3 else ""
        )
    if len(names) > MANY_COLUMNS and all(any(c.isdigit() for c in name) for name in names[1:]):
        return "A table of pixels is for the data set `arrays`: " + _other_formats.array_remedy(path)
    return likely(setting, names)


def likely(setting: str, names: Sequence[str]) -> str:
    """Which of the columns a setting might name."""
    words = WORDS[setting]
    return f"Set `{setting}" + next((f": {name}" for name in names if any(w in name.lower() for w in words)), "") + "`"


def _with_known_splits(rows: Sequence[Row], path: Path, column: str, what: str) -> list[Row]:
    if part := _named_by_value(column, {row.split.lower() for row in rows}):
        other = "test" if part == "train" else "train"
        return [row._replace(split=part if row.split.lower() in YES else other) for row in rows]
    unknown = sorted({row.split for row in rows if row.split.lower() not in SPLITS})
    if unknown:
        rule = f"column {column!r} must say {', '.join(SPLITS)}"
        remedy = f"Rename them: `table[{column!r}] = table[{column!r}].replace({{{unknown[0]!r}: 'train'}})`"
        raise DataError(f"{what}: {path}: {rule}. Got {first_ten(unknown)}. {remedy}.")
    return [row._replace(split=SPLITS[row.split.lower()]) for row in rows]


def _named_by_value(column: str, values: Collection[str]) -> str:
    """The part that a column of yes and no means by its name, such as `is_train` or `test`; "" for other columns."""
    words = [word for word in re.split(r"[\W_]+", column.lower()) if word in SPLITS]
    return SPLITS[words[0]] if len(words) == 1 and set(values) <= {*YES, *NO} else ""


def _of_lines(path: Path, content: list[str], split: str, what: str) -> list[Row]:
    """Lines `path label`; the path may hold spaces, the label none. Or lines `label`."""
    rows, broken = [], []
    labels_only = all(len(line.split()) < 2 and not _folders.is_image_file(line.strip()) for line in content)
    cells = re.split(r"[,;\t]", content[0])
    if len(cells) > 1 and any(_folders.is_image_file(cell.strip()) for cell in cells):
        remedy = f"Give it a heading and another ending: `sed '1i file,label' {path.name} > {path.stem}.csv`"
        raise DataError(f"{what}: {path}: every line must be `path label`. Got {content[0]!r:.80}. {remedy}.")
    for number, line in enumerate(content, start=1):
        if not line.strip():
            continue
        words = line.rsplit(maxsplit=1)
        if labels_only:
            rows.append(Row(number, "", words[0], split))
        elif len(words) == 2:
            rows.append(Row(number, words[0].strip(), words[1], split))
        else:
            broken.append(number)
    if broken:
        got, remedy = f"{len(broken)} that are not, lines {first_ten(broken)}", "Mend them"
        if all("/" in content[number - 1] and _folders.is_image_file(content[number - 1]) for number in broken):
            remedy = f"If their folders are the classes: `awk -F/ '{{print $0, $(NF-1)}}' {path.name} > labels.txt`"
        raise DataError(f"{what}: {path}: every line must be `path label`. Got {got}. {remedy}.")
    return rows


def lines(path: Path, what: str, limit: int = MAX_BYTES) -> list[str]:
    """The lines of a text file of at most `limit` bytes."""
    try:
        with files.open_regular(path, limit) as file:
            held = file.read(limit)
            encoding = "utf-16" if held.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
            rows = max(held.count(b"\n"), held.count(b"\r"))
            memory_limit.require(ROW_BYTES * rows, f"{what}: {path}: {rows:,} rows", "Leave rows out.")
            text = held.decode(encoding).replace("\r\n", "\n")
            return (text if "\n" in text else text.replace("\r", "\n")).split(
                "\n"
            )  # as old programs for Macs end lines
    except OSError as error:
        raise DataError(f"{what}: {path}: must be a text that can be read. Got {files.reason(error)}.") from None
    except UnicodeDecodeError as error:
        remedy = "Convert it: iconv -f latin1 -t utf-8"
        raise DataError(f"{what}: {path}: must be text in UTF-8. Got {error.reason}. {remedy}.") from None


def class_list(path: Path, known: Collection[str], what: str) -> tuple[str, ...]:
    """The classes that a file lists, sorted.

    A line is one of the `known`, or begins with one (`n0144 tench`, `n0144, tench`), or is made of them alone
    (`n0144 n0145`). In JSON they are a list, or the keys.
    """
    named = [line.strip() for line in lines(path, what, MAX_LIST_BYTES) if line.strip()]
    if path.suffix.lower() == ".json":
        try:
            named = [str(name) for name in files.parse_json("\n".join(named).encode())]
        except (ValueError, TypeError) as error:
            got = f"Got {error}"
            raise DataError(
                f"{what}: {path}: must be a list of classes, or have them as keys. {got}. Mend it."
            ) from None
    found = [name for line in named for name in _classes_of(line, known)]
    twice = sorted(name for name, count in Counter(found).items() if count > 1)
    if twice or not found:
        got = f"{first_ten(twice)} again" if twice else "none"
        raise DataError(f"{what}: {path}: must name each class once. Got {got}. Run: sort -u {path.name}.")
    missing = [name for name in found if name not in known]
    if missing:
        got = f"{len(missing)} that are not: {first_ten(missing)}"
        raise DataError(f"{what}: {path}: every line must be a class of the data. Got {got}. Mend the list.")
    return tuple(sorted(found))


def _classes_of(line: str, known: Collection[str]) -> list[str]:
    """The classes that a line names."""
    words = line.replace(",", " ").split() or [line]
    return [line] if line in known else words if set(words) <= set(known) else words[:1]
