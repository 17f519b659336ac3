from dataclasses import dataclass
from typing import Any, ClassVar

from cl_semisup.data.images import Facts
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class Cifar100(_sources.PublishedCifar):
    """CIFAR-100: 60,000 photographs of 32x32 pixels in colour, 100 fine classes, balanced.

    50,000 for training and 10,000 for testing. A `cifar100.npz` in data_dir replaces the published files.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = _sources.NATURAL
    name: ClassVar[str] = "cifar100"
    torchvision: ClassVar[str] = "CIFAR100"
    files: ClassVar[tuple[str, ...]] = tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))
    published: ClassVar[Facts] = Facts(50_000, 10_000, classes=100, channels=3, side=32, smallest_class=500)
