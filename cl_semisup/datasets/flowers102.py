from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cl_semisup.datasets._photographs import Photographs, Rows, listed


@dataclass(frozen=True)
class Flowers102(Photographs):
    """Flowers-102: photographs of 102 kinds of flowers, 2,040 for training and 6,149 for testing.

    The published training and validation parts are both for training. Classes are called by their numbers.

    Source: Nilsback, Zisserman 2008, Automated Flower Classification; files as torchvision has them, in `flowers-102`
    """

    name: ClassVar[str] = "flowers102"
    metric: ClassVar[str] = "mean_per_class"
    files: ClassVar[tuple[str, ...]] = ("flowers-102/imagelabels.mat", "flowers-102/setid.mat", "flowers-102/jpg")

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        train, val, test = (datasets.Flowers102(data_dir, split, loader=Path) for split in ("train", "val", "test"))
        rows = listed(train) + listed(val)
        return rows, listed(test), [str(number) for number in range(max(label for _, label in rows) + 1)]
