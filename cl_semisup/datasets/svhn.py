from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources

SIZES = (4_948, 13_861, 10_585, 8_497, 7_458, 6_882, 5_727, 5_595, 5_045, 4_659)


@dataclass(frozen=True)
class Svhn(_sources.Published):
    """Street View House Numbers: 99,289 digits cropped from photographs, 32x32 pixels in colour.

    73,257 for training, from 4,659 nines to 13,861 ones, and 26,032 for testing; the easier `extra` part is left out.
    A `svhn.npz` in data_dir replaces the published files. Images are not mirrored, because a mirrored digit is no
    digit, and are cropped mildly, because half a digit may look like another one.

    Source: Netzer et al. 2011, Reading Digits in Natural Images; files as torchvision has them
    """

    views: ClassVar[dict[str, Any]] = {**_sources.NATURAL, "crop_area": 0.5, "flip": 0.0}
    name: ClassVar[str] = "svhn"
    torchvision: ClassVar[str] = "SVHN"
    files: ClassVar[tuple[str, ...]] = ("train_32x32.mat", "test_32x32.mat")
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    published: ClassVar[Facts] = Facts(
        73_257, 26_032, classes=10, channels=3, side=32, smallest_class=4_659, class_sizes=SIZES
    )

    def _fetch(self, data_dir: Path) -> None:
        for split in ("train", "test"):  # each part has a file of its own
            self._part(data_dir, split=split, download=True)

    def _read(self, data_dir: Path) -> Images:
        train, test = (self._part(data_dir, split=split) for split in ("train", "test"))
        train_images, test_images = (np.ascontiguousarray(part.data) for part in (train, test))  # (M, 3, 32, 32)
        return Images(train_images, train.labels, test_images, test.labels, self.class_names)
