import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _labels, _pixels, _sources, _table
from cl_semisup.datasets._decoding import Listing, raise_faults, ten_of
from cl_semisup.errors import DataError


@dataclass(frozen=True)
class ImageTable(_pixels.PixelSettings):
    """Your own images in one folder, and a table that names each file and its label.

    `csv` is a CSV (`,` or `;`) or TSV with a heading, or a text of lines `path label` without one. Files are named
    relative to `folder`. Whether an image is for training or for testing is told by the split column, or by two tables.
    A training image without a label (an empty cell, or -1 among numbers) is unlabelled. Labels that are numbers are
    ordered as numbers, others as text. Columns that are not named are not used.

    Source: None

    Args:
        csv: the table, relative to data_dir
        folder: the folder of the files, relative to data_dir
        test_csv: a second table, of the test images; then all of `csv` is for training
        file_column: column of the file's path
        label_column: column of the label
        split_column: column that says train, test or val; not used with `test_csv`
        suffix: what a name in the table lacks, such as `.jpg`
        val: what the images called val are for; with `auto` for testing if none is called test, and else for nothing
        classes: a text file with a class a line, relative to data_dir; other classes are left out
    """

    csv: Annotated[str, MinLen(1)]
    folder: Annotated[str, MinLen(1)]
    test_csv: str = ""
    file_column: str = "file"
    label_column: str = "label"
    split_column: str = "split"
    suffix: str = ""
    val: Literal["auto", "train", "test", "unused"] = "auto"
    classes: str = ""

    def facts(self, data_dir: Path) -> Facts:
        return self._listing(data_dir).without_pixels(self).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        tables = self._tables(data_dir)
        if not all(os.path.lexists(path) for path, _ in tables):
            return ()
        listing = self._listing(data_dir)
        images = [Path(source.name) for part in (listing.train, listing.test) for source in part]
        lists = [_sources.inside(data_dir, self.classes, "image_table: classes")] if self.classes else []
        return (*(path for path, _ in tables), *lists, *images)

    def load(self, data_dir: Path) -> Images:
        return self._listing(data_dir).images(self, f"image_table: {self.csv}")

    def _tables(self, data_dir: Path) -> list[tuple[Path, str]]:
        """Each table and the part that all of its rows belong to, "" where a column tells it."""
        table = _sources.inside(data_dir, self.csv, "image_table: csv")
        if self.test_csv:
            return [(table, "train"), (_sources.inside(data_dir, self.test_csv, "image_table: test_csv"), "test")]
        return [(table, "")]

    def _listing(self, data_dir: Path) -> Listing:
        columns = (self.file_column, self.label_column, self.split_column)
        rows: list[_table.Row] = []
        for path, split in self._tables(data_dir):
            rows += _table.read(
                path, columns, split, "image_table: test_csv" if split == "test" else "image_table: csv"
            )
        where = f"image_table: {self.csv}"
        names: tuple[str, ...] | None = None
        if self.classes:
            path = _sources.inside(data_dir, self.classes, "image_table: classes")
            known = {row.label for row in rows}
            names = _table.class_list(path, known, "image_table: classes")
            kept = {*names, ""}
            rows = [row for row in rows if row.label in kept]
        train, test = _parts(rows, self.val)
        for part, found in (("train", train), ("test", test)):
            if not found:
                remedy = f"Name some in the column {self.split_column!r}, or in a second table `test_csv`"
                raise DataError(f"{where}: must name images for {part}. Got none. {remedy}.")
        unlabelled = [row.line for row in test if not row.label]
        if unlabelled:
            got = f"{len(unlabelled)} without, lines {ten_of(unlabelled)}"
            raise DataError(f"{where}: every test image must have a label. Got {got}. Remove these lines.")
        folder = _sources.inside(data_dir, self.folder, "image_table: folder")
        files = [self._files(data_dir, folder, part, where) for part in (train, test)]
        labels = _labels.of_text([row.label for row in train], [row.label for row in test], names, where)
        return Listing(
            [_pixels.of_file(f) for f in files[0]], labels[0], [_pixels.of_file(f) for f in files[1]], *labels[1:]
        )

    def _files(self, data_dir: Path, folder: Path, rows: Sequence[_table.Row], where: str) -> list[Path]:
        """The file of each row; all that are missing are told."""
        paths = [_sources.inside(folder, row.file + self.suffix, f"{where}: line {row.line}") for row in rows]
        there = _names_in(folder, {path.parent for path in paths})
        missing = [
            f"{where}: line {row.line}: must name a file in {folder}. Got {row.file + self.suffix!r}: there is none."
            for row, path in zip(rows, paths, strict=True)
            if path.name not in there[path.parent]
        ]
        if missing:
            missing[0] += " Mend folder, suffix or the table."
        raise_faults(missing, f"{where}: {{}} files are not there")
        return paths


def _names_in(folder: Path, parents: set[Path]) -> dict[Path, set[str]]:
    """Folder -> names in it; a listing is faster than asking for every file."""
    return {parent: set(os.listdir(parent)) if parent.is_dir() else set() for parent in parents}


def _parts(rows: Sequence[_table.Row], val: str) -> tuple[list[_table.Row], list[_table.Row]]:
    """The rows for training and for testing."""
    if val == "auto":
        val = "unused" if any(row.split == "test" for row in rows) else "test"
    train, test = (
        [row for row in rows if row.split in (part, "val" if val == part else part)] for part in ("train", "test")
    )
    return train, test
