from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10: 60,000 photographs of 32x32 pixels in colour, 10 classes of things and animals, balanced.

    50,000 for training and 10,000 for testing. A `cifar10.npz` in data_dir goes before the published files.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = _sources.NATURAL

    def facts(self, data_dir: Path) -> Facts:
        return _KNOWN.facts(data_dir)

    def prepare(self, data_dir: Path, download: bool) -> None:
        _KNOWN.prepare(data_dir, download)

    def load(self, data_dir: Path) -> Images:
        return _KNOWN.load(data_dir)


def _fetch(data_dir: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(data_dir, train=False, download=True)  # one archive holds both parts


def _read(data_dir: Path) -> Images:
    from torchvision.datasets import CIFAR10

    train, test = CIFAR10(data_dir, train=True), CIFAR10(data_dir, train=False)
    train_images, test_images = (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test))
    train_labels, test_labels = (np.asarray(part.targets, np.int64) for part in (train, test))
    return Images(train_images, train_labels, test_images, test_labels, tuple(train.classes))


FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
_KNOWN = _sources.Known(
    "cifar10",
    Facts(train=50_000, test=10_000, classes=10, channels=3, side=32, smallest_class=5_000),
    tuple(f"cifar-10-batches-py/{name}" for name in FILES),
    _fetch,
    _read,
)
