from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cl_semisup.datasets._photographs import Photographs, Rows, listed


@dataclass(frozen=True)
class Food101(Photographs):
    """Food-101: photographs of 101 dishes, 75,750 for training (with wrong labels among them) and 25,250 for testing.

    Source: Bossard et al. 2014, Food-101; files as torchvision has them, in `food-101`
    """

    name: ClassVar[str] = "food101"
    files: ClassVar[tuple[str, ...]] = ("food-101/meta/train.json", "food-101/meta/test.json", "food-101/images")

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        train, test = (datasets.Food101(data_dir, split, loader=Path) for split in ("train", "test"))
        return listed(train), listed(test), train.classes
