import os
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval, MinLen

from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _folders, _labels, _pixels, _sources, _table
from cl_semisup.datasets._decoding import Listing, raise_faults, used_parts
from cl_semisup.errors import DataError, first_ten


@dataclass(frozen=True)
class ImageTable(_pixels.PixelSettings):
    """Your own images in one folder, and a table that names each file and its label.

    `csv` is a CSV (`,`, `;`, `|` or tabs) or TSV with a heading, or a text of lines `path label` without one, or of
    labels alone, a line for each file of the folder in the order of their names. Files are named relative to `folder`.
    Whether an image is for training or for testing is told by the split column, or by two tables. A training image
    without a label (an empty cell, or -1 among numbers) is unlabelled. Labels that are numbers are ordered as numbers,
    others as text. Columns that are not named are not used. Images called val are for testing if none is called test.
    Decoded pixels are kept in `folder` as those of `image_folder` are.

    Source: None

    Args:
        csv: the table, relative to data_dir
        folder: the folder of the files, relative to data_dir
        test_csv: a second table, of the test images; then all of `csv` is for training
        file_column: column of the file's path
        label_column: column of the label
        split_column: column that says train, test or val; not used with `test_csv`, `test_fraction` or `folds`
        test_fraction: share of each class that is the test part, drawn once and the same for all runs
        folds: the images are tested in so many folds, repetition r testing fold r mod folds
        suffix: what a name in the table lacks, such as `.jpg`
        val: what images called val beside test are for: tuning (validate), or training (merge); else they are not used
        classes: a text file with a class a line, relative to data_dir; other classes are left out
    """

    csv: Annotated[str, MinLen(1)]
    folder: Annotated[str, MinLen(1)]
    test_csv: str = ""
    file_column: str = "file"
    label_column: str = "label"
    split_column: str = "split"
    test_fraction: Annotated[float, Interval(ge=0.01, le=0.9)] | None = None
    suffix: str = ""
    val: Literal["validate", "merge"] | None = None
    classes: str = ""
    folds: Annotated[int, Interval(ge=2, le=1000)] | None = None

    def facts(self, data_dir: Path) -> Facts:
        return self._listing(data_dir).without_pixels(self).facts()

    def layout(self, data_dir: Path) -> Layout:
        return self._listing(data_dir).layout

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        tables = self._tables(data_dir)
        if not all(os.path.lexists(path) for path, _ in tables):
            return ()
        images = self._listing(data_dir).files()
        lists = [_sources.inside(data_dir, self.classes, "image_table: classes")] if self.classes else []
        return (*(path for path, _ in tables), *lists, *images)

    def load(self, data_dir: Path) -> Images:
        return self._listing(data_dir).images(self, f"image_table: {self.csv}")

    def _tables(self, data_dir: Path) -> list[tuple[Path, str]]:
        """Each table and the part that all of its rows belong to, "" where a column tells it."""
        table = _sources.inside(data_dir, self.csv, "image_table: csv")
        if self.test_csv:
            return [(table, "train"), (_sources.inside(data_dir, self.test_csv, "image_table: test_csv"), "test")]
        return [(table, "train" if self.test_fraction or self.folds else "")]

    def _listing(self, data_dir: Path) -> Listing:
        columns = (self.file_column, self.label_column, self.split_column)
        rows: list[_table.Row] = []
        if self.test_fraction and self.folds:
            raise DataError("image_table: test_fraction and folds exclude each other. Got both. Keep one.")
        for path, split in self._tables(data_dir):
            rows += _table.read(
                path, columns, split, "image_table: test_csv" if split == "test" else "image_table: csv"
            )
        where = f"image_table: {self.csv}"
        rows = self._with_files(data_dir, rows, where)
        folder = _sources.inside(data_dir, self.folder, "image_table: folder")
        notes = _named_twice(rows) + _not_named(folder, [row.file + self.suffix for row in rows])
        names: tuple[str, ...] | None = None
        if self.classes:
            path = _sources.inside(data_dir, self.classes, "image_table: classes")
            known = {row.label for row in rows}
            names = _table.class_list(path, known, "image_table: classes")
            kept = {*names, ""}
            rows = [row for row in rows if row.label in kept]
        listing = self._of_rows(data_dir, rows, names, where)
        return replace(listing, raw_layout=replace(listing.raw_layout, notes=(*listing.raw_layout.notes, *notes)))

    def _of_rows(self, data_dir: Path, rows: list[_table.Row], names: tuple[str, ...] | None, where: str) -> Listing:
        of = {name: [row for row in rows if row.split == name] for name in ("train", "test", "val")}
        sizes = {name: len(part) for name, part in of.items() if part}
        used, layout = used_parts(sizes, self.val, where)
        parts = {part: [row for name in names for row in of[name]] for part, names in used.items()}
        for part in ("train",) if self.test_fraction or self.folds else ("train", "test"):
            if not parts[part]:
                remedy = f"Name some in the column {self.split_column!r} or in a table `test_csv`"
                remedy += ", or set `test_fraction: 0.2`"
                raise DataError(f"{where}: must name images for {part}. Got none. {remedy}.")
        tested = parts["test"] + parts["val"]
        unlabelled = [row.line for row in tested if not row.label]
        if unlabelled:
            got = f"{len(unlabelled)} without, lines {first_ten(unlabelled)}"
            raise DataError(f"{where}: every test image must have a label. Got {got}. Remove these lines.")
        folder = _sources.inside(data_dir, self.folder, "image_table: folder")
        sources = {part: [_pixels.of_file(path) for path in self._files(folder, parts[part], where)] for part in parts}
        texts = [[row.label for row in part] for part in (parts["train"], tested)]
        train_labels, labels, classes = _labels.of_text(texts[0], texts[1], names, where)
        count = len(parts["test"])
        own = (sources["train"], train_labels, sources["test"], labels[:count], classes, folder, self._name())
        listing = Listing(*own, sources["val"], labels[count:], raw_layout=layout)
        return listing.tested(self.test_fraction, self.folds, "image_table", self.csv)

    def _name(self) -> str:
        """Digits that tell tables of one folder apart."""
        return str(zlib.crc32(repr((self.csv, self.test_csv, self.split_column, self.test_fraction)).encode()))

    def _with_files(self, data_dir: Path, rows: list[_table.Row], where: str) -> list[_table.Row]:
        """The rows; those of labels alone get the files of the folder in the order of their names."""
        without_file = [row for row in rows if not row.file]
        if not without_file or any(row.file for row in rows):  # paths may be those of Windows
            return [row if "/" in row.file else row._replace(file=row.file.replace("\\", "/")) for row in rows]
        folder = _sources.inside(data_dir, self.folder, "image_table: folder")
        files = _folders.names(folder, "image_table")
        if len(files) != len(rows):
            rule = f"of labels alone there must be one for each file of {folder}"
            got = f"Got {len(rows):,} labels and {len(files):,} files"
            raise DataError(f"{where}: {rule}. {got}. Name the files too, in lines `path label`.")
        return [row._replace(file=file) for row, file in zip(rows, files, strict=True)]

    def _files(self, folder: Path, rows: Sequence[_table.Row], where: str) -> list[Path]:
        """The file of each row; all that are missing are told."""
        if not folder.is_dir():
            raise DataError(
                f"image_table: folder: must be in data_dir. Got no folder {folder}. Mend folder or data_dir."
            )
        names = [row.file + self.suffix for row in rows]
        paths, outside = list[Path](), list[_table.Row]()
        for row, name in zip(rows, names, strict=True):
            try:
                paths.append(_sources.inside(folder, name, where))
            except DataError:
                outside.append(row)
        if outside:
            rule, first = f"every path must be relative to {folder}, without '..'", outside[0]
            got = f"Got {len(outside):,} others, such as {first.file!r} in line {first.line}"
            remedy = f"Cut off what comes before, for instance with `sed -i 's#{os.path.dirname(first.file)}/##'`"
            raise DataError(f"{where}: {rule}. {got}. {remedy}.")
        there = _names_in(folder, {path.parent for path in paths})
        missing = [
            f"{where}: line {row.line}: must name a file in {folder}. Got {name!r}: there is none."
            for row, path, name in zip(rows, paths, names, strict=True)
            if path.name not in there[path.parent]
        ]
        if missing:
            missing[0] += f" {_remedy(names, rows, there, folder)}"
        raise_faults(missing, f"{where}: {{}} files are not there")
        return paths


def _named_twice(rows: Sequence[_table.Row]) -> list[str]:
    """A note on files that the table names several times."""
    first: dict[str, _table.Row] = {}
    rows = [row._replace(file=os.path.normpath(row.file)) for row in rows]
    again = [row for row in rows if first.setdefault(row.file, row) is not row]
    if not again:
        return []
    other = [row for row in again if row.label != first[row.file].label]
    row, with_other = (other or again)[0], f", {len(other):,} of them with another label" if other else ""
    lines = f"{row.file!r} in lines {first[row.file].line} and {row.line}"
    return [f"{len(again):,} rows name a file again{with_other}, such as {lines}. Remove them, unless it is meant."]


def _not_named(folder: Path, names: Sequence[str]) -> list[str]:
    """A note on images that lie beside those that the table names."""
    named: dict[str, set[str]] = {}
    for name in names:
        parent, _, leaf = os.path.normpath(name).rpartition("/")
        named.setdefault(parent, set()).add(leaf)
    inside = [parent for parent in sorted(named) if not parent.startswith(("..", "/")) and (folder / parent).is_dir()]
    found = ((parent, name) for parent in inside for name in _folders.names(folder / parent, "image_table"))
    rest = [os.path.join(parent, name) for parent, name in found if _not_in(name, named[parent])]
    return [f"{len(rest):,} images of {folder} are not in the table: {first_ten(rest)}."] if rest else []


def _not_in(name: str, named: set[str]) -> bool:
    return name not in named and _folders.is_image_file(name)


def _names_in(folder: Path, parents: set[Path]) -> dict[Path, set[str]]:
    """Folder -> names in it; a listing is faster than asking for every file."""
    return {parent: set(os.listdir(parent)) if parent.is_dir() else set() for parent in parents}


def _remedy(names: Sequence[str], rows: Sequence[_table.Row], there: Mapping[Path, set[str]], folder: Path) -> str:
    """What mends a table whose files are not there."""
    held = {name for found in there.values() for name in found}
    first = next(name for name in names if not (folder / name).exists())
    if all(_folders.is_image_file(row.label) and not _folders.is_image_file(row.file) for row in rows):
        if [row.file for row in rows] != [str(number) for number in range(1, len(rows) + 1)]:
            return "The label stands first: `awk '{print $2, $1}'` makes lines `path label`."
        return (
            "These are lines `number path`, as CUB has them: `paste -d' ' <(cut -d' ' -f2 images.txt) "
            "<(cut -d' ' -f2 image_class_labels.txt) > labels.txt` makes lines `path label`."
        )
    if (folder.parent / first).exists():
        return f"They begin with the folder's own name: `sed -i 's#{folder.name}[/\\\\]##'` cuts it off."
    leaf = first.rpartition("/")[2]
    endings = sorted({name.removeprefix(leaf) for name in held if name.startswith(f"{leaf}.")})
    if endings:
        return f"Set `suffix: {endings[0]}`."
    if {unicodedata.normalize("NFC", name) for name in held} & {unicodedata.normalize("NFC", leaf)}:
        other = next(name for name in held if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", leaf))
        return f"There is {other!a} and not {leaf!a}: run `convmv -f utf8 -t utf8 --nfc -r --notest {folder}`."
    cases = {name.lower(): name for name in held}
    if leaf.lower() in cases:
        return f"There is {cases[leaf.lower()]!r}, in other letters: rename it, or mend the table."
    return "Mend folder, suffix or the table, or leave these lines out."
