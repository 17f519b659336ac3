from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources


@dataclass(frozen=True)
class Svhn:
    """Street View House Numbers: 99,289 digits cropped from photographs, 32x32 pixels in colour.

    73,257 for training, from 4,659 nines to 13,861 ones, and 26,032 for testing; the easier `extra` part is left out.
    A `svhn.npz` in data_dir goes before the published files. Not mirrored, since a mirrored digit is no digit, and
    cropped mildly, since half a digit may be another one.

    Source: Netzer et al. 2011, Reading Digits in Natural Images; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = {**_sources.NATURAL, "crop_area": 0.5, "flip": 0.0}

    def facts(self, data_dir: Path) -> Facts:
        return _KNOWN.facts(data_dir)

    def prepare(self, data_dir: Path, download: bool) -> None:
        _KNOWN.prepare(data_dir, download)

    def load(self, data_dir: Path) -> Images:
        return _KNOWN.load(data_dir)


def _fetch(data_dir: Path) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):  # one file a part
        SVHN(data_dir, split=split, download=True)


def _read(data_dir: Path) -> Images:
    from torchvision.datasets import SVHN

    train, test = SVHN(data_dir, split="train"), SVHN(data_dir, split="test")
    train_images, test_images = (np.ascontiguousarray(part.data) for part in (train, test))  # (M, 3, 32, 32)
    names = tuple(str(digit) for digit in range(10))
    return Images(train_images, train.labels, test_images, test.labels, names)


SIZES = (4_948, 13_861, 10_585, 8_497, 7_458, 6_882, 5_727, 5_595, 5_045, 4_659)
_KNOWN = _sources.Known(
    "svhn",
    Facts(73_257, 26_032, classes=10, channels=3, side=32, smallest_class=4_659, class_sizes=SIZES),
    ("train_32x32.mat", "test_32x32.mat"),
    _fetch,
    _read,
)
