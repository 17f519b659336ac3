from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images


@dataclass(frozen=True)
class Digits:
    """1,797 real handwritten digits of 8x8 grey pixels, inside scikit-learn, without a download.

    A fixed stratified split, 1,437 for training and 360 for testing. Pixels of 0 to 16 are scaled to 0 to 255.

    Source: UCI Optical Recognition of Handwritten Digits, test part, as shipped by scikit-learn
    """

    views: ClassVar[dict[str, Any]] = dict(rotation=15.0, shift=0.1, zoom=0.15)

    def facts(self, data_dir: Path) -> Facts:
        sizes = (142, 146, 142, 146, 145, 145, 145, 143, 139, 144)
        return Facts(1437, 360, classes=10, channels=1, side=8, smallest_class=139, class_sizes=sizes)

    def prepare(self, data_dir: Path, download: bool) -> None:
        """Nothing to prepare: the data comes with scikit-learn."""

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        return ()  # it comes with scikit-learn

    def load(self, data_dir: Path) -> Images:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        data = load_digits()
        images = np.rint(data.images * (255 / 16)).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
        labels = data.target.astype(np.int64)
        train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
        train, test = np.sort(train), np.sort(test)
        names = tuple(str(name) for name in data.target_names)
        return Images(images[train], labels[train], images[test], labels[test], names)
