from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class Cifar100:
    """CIFAR-100: 60,000 photographs of 32x32 pixels in colour, 100 fine classes, balanced.

    50,000 for training and 10,000 for testing. A `cifar100.npz` in data_dir goes before the published files.

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
    from torchvision.datasets import CIFAR100

    CIFAR100(data_dir, train=False, download=True)  # one archive holds both parts


def _read(data_dir: Path) -> Images:
    from torchvision.datasets import CIFAR100

    train, test = CIFAR100(data_dir, train=True), CIFAR100(data_dir, train=False)
    train_images, test_images = (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)) for part in (train, test))
    train_labels, test_labels = (np.asarray(part.targets, np.int64) for part in (train, test))
    return Images(train_images, train_labels, test_images, test_labels, tuple(train.classes))


_KNOWN = _sources.Known(
    "cifar100",
    Facts(train=50_000, test=10_000, classes=100, channels=3, side=32, smallest_class=500),
    tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
    _fetch,
    _read,
)
