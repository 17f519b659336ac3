from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class FashionMnist:
    """Fashion-MNIST: 70,000 shop photographs of clothes, 28x28 grey pixels, 10 classes, balanced.

    60,000 for training and 10,000 for testing. A `fashion_mnist.npz` in data_dir goes before the published files. Crops
    are mild, since a shirt and a coat differ at their outlines.

    Source: arXiv 1708.07747; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = {"crop_area": 0.5, "flip": 0.5}

    def facts(self, data_dir: Path) -> Facts:
        return _KNOWN.facts(data_dir)

    def prepare(self, data_dir: Path, download: bool) -> None:
        _KNOWN.prepare(data_dir, download)

    def load(self, data_dir: Path) -> Images:
        return _KNOWN.load(data_dir)


def _fetch(data_dir: Path) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(data_dir, train=False, download=True)  # fetches both parts


def _read(data_dir: Path) -> Images:
    from torchvision.datasets import FashionMNIST

    train, test = FashionMNIST(data_dir, train=True), FashionMNIST(data_dir, train=False)
    train_images, test_images = (part.data.numpy()[:, None] for part in (train, test))  # (M, 1, 28, 28)
    return Images(train_images, train.targets.numpy(), test_images, test.targets.numpy(), tuple(train.classes))


FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_KNOWN = _sources.Known(
    "fashion_mnist",
    Facts(train=60_000, test=10_000, classes=10, channels=1, side=28, smallest_class=6_000),
    tuple(f"FashionMNIST/raw/{name}-ubyte" for name in FILES),
    _fetch,
    _read,
)
