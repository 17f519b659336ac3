from dataclasses import dataclass
from typing import Any, ClassVar

from cl_semisup.data.images import Facts
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class FashionMnist(_sources.PublishedMnist):
    """Fashion-MNIST: 70,000 shop photographs of clothes, 28x28 grey pixels, 10 classes, balanced.

    60,000 for training and 10,000 for testing. A `fashion_mnist.npz` in data_dir replaces the published files. Crops
    are mild because a shirt and a coat differ at their outlines.

    Source: arXiv 1708.07747; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = {"crop_area": 0.5, "flip": 0.5}
    name: ClassVar[str] = "fashion_mnist"
    torchvision: ClassVar[str] = "FashionMNIST"
    files: ClassVar[tuple[str, ...]] = tuple(f"FashionMNIST/raw/{name}" for name in _sources.MNIST_FILES)
    published: ClassVar[Facts] = Facts(60_000, 10_000, classes=10, channels=1, side=28, smallest_class=6_000)
