from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Interval

from cl_semisup.datasets._photographs import Photographs, Rows, listed


@dataclass(frozen=True)
class Dtd(Photographs):
    """Describable Textures: photographs of 47 kinds of texture, 3,760 for training and 1,880 for testing.

    The published training and validation parts are both for training.

    Source: arXiv 1311.3618; files as torchvision has them, in `dtd/dtd`

    Args:
        partition: number of the published split into training and test images
    """

    partition: Annotated[int, Interval(ge=1, le=10)] = 1
    name: ClassVar[str] = "dtd"
    files: ClassVar[tuple[str, ...]] = ("dtd/dtd/labels", "dtd/dtd/images")

    def tables(self) -> tuple[str, ...]:
        return tuple(f"dtd/dtd/labels/{part}{self.partition}.txt" for part in ("train", "val", "test"))

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        train, val, test = (
            datasets.DTD(data_dir, split, partition=self.partition, loader=Path) for split in ("train", "val", "test")
        )
        return listed(train) + listed(val), listed(test), train.classes
