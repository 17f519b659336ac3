from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources

SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}


@dataclass(frozen=True)
class Cifar100Coarse(_sources.PublishedCifar):
    """CIFAR-100 with its 20 coarse classes: 60,000 photographs of 32x32 pixels in colour, balanced.

    50,000 for training and 10,000 for testing. A `cifar100_coarse.npz` in data_dir replaces the published files, which
    are those of `cifar100`.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = _sources.NATURAL
    name: ClassVar[str] = "cifar100_coarse"
    torchvision: ClassVar[str] = "CIFAR100"
    files: ClassVar[tuple[str, ...]] = tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))
    published: ClassVar[Facts] = Facts(50_000, 10_000, classes=20, channels=3, side=32, smallest_class=2_500)

    def _read(self, data_dir: Path) -> Images:
        fine = super()._read(data_dir)
        coarse = {name: number for number, names in enumerate(SUPERCLASSES.values()) for name in names.split()}
        of_fine = np.array([coarse[name] for name in fine.class_names], np.int64)
        train, test = of_fine[fine.train_labels], of_fine[fine.test_labels]
        return replace(fine, train_labels=train, test_labels=test, class_names=tuple(SUPERCLASSES))
