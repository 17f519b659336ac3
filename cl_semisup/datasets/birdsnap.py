import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cl_semisup.datasets import _table
from cl_semisup.datasets._photographs import Photographs, Rows
from cl_semisup.errors import DataError


@dataclass(frozen=True)
class Birdsnap(Photographs):
    """Birdsnap: photographs of 500 species of birds, at most 47,386 for training and 2,443 for testing.

    torchvision does not have it. Read are `birdsnap/images.txt` and `birdsnap/test_images.txt`, with columns between
    tabs and a heading that names `path`, and the files in `birdsnap/images`. The images are links into the web, many of
    which are dead: those that are not there are left out. A class is a sub-folder.

    Source: Berg et al. 2014, Birdsnap; the layout of its own script
    """

    name: ClassVar[str] = "birdsnap"
    files: ClassVar[tuple[str, ...]] = ("birdsnap/images.txt", "birdsnap/test_images.txt", "birdsnap/images")

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        every, test = (_paths(data_dir / name) for name in self.files[:2])
        root = data_dir / self.files[2]
        there = {
            f"{name}/{file}" for name in os.listdir(root) if (root / name).is_dir() for file in os.listdir(root / name)
        }
        classes = sorted({path.partition("/")[0] for path in every})
        number = {name: n for n, name in enumerate(classes)}
        parts = []
        testing = set(test)
        for chosen in ([path for path in every if path not in testing], test):
            parts.append([(root / path, number[path.partition("/")[0]]) for path in chosen if path in there])
        return parts[0], parts[1], classes


def _paths(table: Path) -> list[str]:
    """The column `path` of a table."""
    heading, *lines = (line.split("\t") for line in _table.lines(table, "birdsnap") if line.strip())
    if "path" not in heading:
        raise DataError(f"birdsnap: {table}:1: must have a column 'path'. Got {heading}. Mend the heading.")
    place = heading.index("path")
    return [line[place].strip() for line in lines if len(line) > place]
