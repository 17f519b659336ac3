import gzip
from base64 import b64decode
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images

# A bit an image: train_test_split(range(1797), test_size=360, stratify=labels, random_state=0) of scikit-learn.
TEST_IMAGES = (
    "AAAEiDUkEEAABkEAk0IFABoACAEAJAAoBiwSABAAlAoAkBkSBCD4oAKBEKAACAqIIEQVJElCQKAKAAAAQATYAACBgCAASAXEABBA"
    "CKAQAAVASAAwEAACDsQJAAIkhACDqAE8IKaYCgAAAAsIQAgEoBhIAgJAQcEAgARARoQ3aoECFgBEgABAQqCkGApQAIQLhWHGCBCA"
    "CABMgMAgBAaOAAEIggCBADgIA8AIGQAAEA4BAIQQoCEAMygpBMBEwIBoDgECgwCCAIgipkAsJAQhCKhggJCBoAwCggJCEgE4pBUA"
)


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
        # To import scikit-learn takes more than a second and much memory, and all that is needed is a table.
        table_file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
        with gzip.open(str(table_file), "rt") as file:
            table = np.loadtxt(file, delimiter=",")  # (1797, 65): pixels and the digit
        images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        labels = table[:, -1].astype(np.int64)
        is_test = np.unpackbits(np.frombuffer(b64decode(TEST_IMAGES), np.uint8))[: len(labels)].astype(bool)
        names = tuple(str(name) for name in range(10))
        return Images(images[~is_test], labels[~is_test], images[is_test], labels[is_test], names)
