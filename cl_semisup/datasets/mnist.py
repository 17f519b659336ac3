from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class Mnist:
    """MNIST: 70,000 handwritten digits of 28x28 grey pixels, white on black.

    60,000 for training, from 5,421 fives to 6,742 ones, and 10,000 for testing. A `mnist.npz` in data_dir goes before
    the published files. Views as those of `digits`: a mirrored digit is no digit, and there is no colour to change.

    Source: LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = {"rotation": 15.0, "shift": 0.1, "zoom": 0.15}

    def facts(self, data_dir: Path) -> Facts:
        return _KNOWN.facts(data_dir)

    def prepare(self, data_dir: Path, download: bool) -> None:
        _KNOWN.prepare(data_dir, download)

    def load(self, data_dir: Path) -> Images:
        return _KNOWN.load(data_dir)


def _fetch(data_dir: Path) -> None:
    from torchvision.datasets import MNIST

    MNIST(data_dir, train=False, download=True)  # fetches both parts


def _read(data_dir: Path) -> Images:
    from torchvision.datasets import MNIST

    train, test = MNIST(data_dir, train=True), MNIST(data_dir, train=False)
    train_images, test_images = (part.data.numpy()[:, None] for part in (train, test))  # (M, 1, 28, 28)
    names = tuple(str(digit) for digit in range(10))
    return Images(train_images, train.targets.numpy(), test_images, test.targets.numpy(), names)


FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
SIZES = (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949)
_KNOWN = _sources.Known(
    "mnist",
    Facts(60_000, 10_000, classes=10, channels=1, side=28, smallest_class=5_421, class_sizes=SIZES),
    tuple(f"MNIST/raw/{name}-ubyte" for name in FILES),
    _fetch,
    _read,
)
