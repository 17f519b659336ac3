from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from cl_semisup.datasets._photographs import Photographs, Rows
from cl_semisup.errors import DataError
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class Caltech101(Photographs):
    """Caltech-101: photographs of 101 kinds of objects; 30 drawn ones of each are for training, others for testing.

    The draw is the same for all runs, since the set has no published split.

    Source: Fei-Fei et al. 2004, Learning Generative Visual Models; files as torchvision has them, in `caltech101`
    Difference: SimCLR counts the background as a class of its own, torchvision leaves it out

    Args:
        per_class: training images of each class
    """

    per_class: Annotated[int, Interval(ge=1)] = 30
    name: ClassVar[str] = "caltech101"
    metric: ClassVar[str] = "mean_per_class"
    files: ClassVar[tuple[str, ...]] = ("caltech101/101_ObjectCategories",)

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        found = datasets.Caltech101(data_dir)
        root, labels = data_dir / self.files[0], np.array(found.y)
        paths = [root / found.categories[y] / f"image_{n:04}.jpg" for y, n in zip(found.y, found.index, strict=True)]
        parts: tuple[list[tuple[Path, int]], list[tuple[Path, int]]] = ([], [])
        for label, name in enumerate(found.categories):
            members = np.flatnonzero(labels == label)
            if len(members) <= self.per_class:
                rule = f"every class must have more than {self.per_class} images, of which that many are for training"
                raise DataError(f"caltech101: per_class: {rule}. Got {len(members)} of {name!r}. Lower it.")
            drawn = np.random.default_rng(seed("split", "caltech101", name)).permutation(members)
            for part, chosen in zip(parts, (drawn[: self.per_class], drawn[self.per_class :]), strict=True):
                part.extend((paths[number], label) for number in sorted(chosen))
        return *parts, found.categories
