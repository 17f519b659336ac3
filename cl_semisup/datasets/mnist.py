from dataclasses import dataclass
from typing import Any, ClassVar

from cl_semisup.data.images import Facts
from cl_semisup.datasets import _sources

SIZES = (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949)


@dataclass(frozen=True)
class Mnist(_sources.PublishedMnist):
    """MNIST: 70,000 handwritten digits of 28x28 grey pixels, white on black.

    60,000 for training, from 5,421 fives to 6,742 ones, and 10,000 for testing. A `mnist.npz` in data_dir replaces
    the published files. The views are those of `digits`: no mirroring, which makes no digit, and no colour changes.

    Source: LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = {"rotation": 15.0, "shift": 0.1, "zoom": 0.15}
    name: ClassVar[str] = "mnist"
    torchvision: ClassVar[str] = "MNIST"
    files: ClassVar[tuple[str, ...]] = tuple(f"MNIST/raw/{name}" for name in _sources.MNIST_FILES)
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    published: ClassVar[Facts] = Facts(
        60_000, 10_000, classes=10, channels=1, side=28, smallest_class=5_421, class_sizes=SIZES
    )
