from dataclasses import dataclass
from typing import Any, ClassVar

from cl_semisup.data.images import Facts
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class Cifar10(_sources.PublishedCifar):
    """CIFAR-10: 60,000 photographs of 32x32 pixels in colour, 10 classes of things and animals, balanced.

    50,000 for training and 10,000 for testing. A `cifar10.npz` in data_dir replaces the published files.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = _sources.NATURAL
    name: ClassVar[str] = "cifar10"
    torchvision: ClassVar[str] = "CIFAR10"
    files: ClassVar[tuple[str, ...]] = tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
    )
    published: ClassVar[Facts] = Facts(50_000, 10_000, classes=10, channels=3, side=32, smallest_class=5_000)
