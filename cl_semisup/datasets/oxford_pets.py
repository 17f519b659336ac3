from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cl_semisup.datasets._photographs import Photographs, Rows


@dataclass(frozen=True)
class OxfordPets(Photographs):
    """Oxford-IIIT Pets: photographs of 37 breeds of cats and dogs, 3,680 for training and 3,669 for testing.

    Source: Parkhi et al. 2012, Cats and Dogs; files as torchvision has them, in `oxford-iiit-pet`
    """

    name: ClassVar[str] = "oxford_pets"
    metric: ClassVar[str] = "mean_per_class"
    files: ClassVar[tuple[str, ...]] = (
        "oxford-iiit-pet/annotations/trainval.txt",
        "oxford-iiit-pet/annotations/test.txt",
        "oxford-iiit-pet/images",
    )

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        train, test = (datasets.OxfordIIITPet(data_dir, split) for split in ("trainval", "test"))
        parts = [list(zip(part._images, part._labels, strict=True)) for part in (train, test)]  # it takes no loader
        return parts[0], parts[1], train.classes
