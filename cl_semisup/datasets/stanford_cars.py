from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cl_semisup.datasets._photographs import Photographs, Rows, listed


@dataclass(frozen=True)
class StanfordCars(Photographs):
    """Stanford Cars: photographs of 196 models of cars, 8,144 for training and 8,041 for testing.

    Source: Krause et al. 2013, 3D Object Representations; files as torchvision has them, in `stanford_cars`
    """

    name: ClassVar[str] = "stanford_cars"
    files: ClassVar[tuple[str, ...]] = (
        "stanford_cars/devkit/cars_meta.mat",
        "stanford_cars/devkit/cars_train_annos.mat",
        "stanford_cars/cars_test_annos_withlabels.mat",
        "stanford_cars/cars_train",
        "stanford_cars/cars_test",
    )

    def rows(self, data_dir: Path) -> tuple[Rows, Rows, Sequence[str]]:
        from torchvision import datasets

        train, test = (datasets.StanfordCars(data_dir, split, loader=Path) for split in ("train", "test"))
        return listed(train), listed(test), train.classes
