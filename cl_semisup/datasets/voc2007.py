from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data.multi_label import MultiLabelImages
from cl_semisup.datasets import _pixels, _sources, _table
from cl_semisup.datasets._decoding import Listing
from cl_semisup.datasets._photographs import Photographs
from cl_semisup.errors import DataError, first_ten

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
TARGETS = {"1": 1, "-1": 0, "0": -1}
MAIN = "VOCdevkit/VOC2007/ImageSets/Main"


@dataclass(frozen=True)
class Voc2007(Photographs):
    """Pascal VOC 2007: photographs that show objects of 20 classes, 5,011 for training and 4,952 for testing.

    An image has several labels, so no run can train on it; the probe `simclr12` evaluates on it.

    Source: Everingham et al. 2010, The Pascal Visual Object Classes; files as torchvision has them, in `VOCdevkit`
    """

    name: ClassVar[str] = "voc2007"
    metric: ClassVar[str] = "map"
    several_labels: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (f"{MAIN}/trainval.txt", f"{MAIN}/test.txt", "VOCdevkit/VOC2007/JPEGImages")

    def load(self, data_dir: Path) -> MultiLabelImages:
        images = self.listing(data_dir).images(self, self.name)
        train, test = (_targets(data_dir / MAIN, part) for part in ("trainval", "test"))
        pixels = (images.train_images, images.train_labels, images.test_images, images.test_labels)
        return MultiLabelImages(*pixels, CLASSES, train_targets=train, test_targets=test)

    def tables(self) -> tuple[str, ...]:
        return tuple(f"{MAIN}/{name}_{part}.txt" for part in ("trainval", "test") for name in CLASSES)

    def listing(self, data_dir: Path) -> Listing:
        """The files of both parts; no image has a single label."""
        from torchvision import datasets

        self.require_files(data_dir)
        with _sources._as_data_error(f"voc2007: its files in {data_dir} cannot be read", "Unpack its archives again."):
            train, test = (
                [_pixels.of_file(Path(path)) for path in datasets.VOCDetection(data_dir, "2007", part).images]
                for part in ("trainval", "test")
            )
        labels = np.full(len(train), -1), np.zeros(len(test), np.int64)
        return Listing(train, labels[0], test, labels[1], CLASSES, self.root(data_dir))


def _targets(folder: Path, part: str) -> NDArray[np.int8]:
    """(M, 20): 1 where an image shows a class, 0 where not, -1 where its objects are all difficult to recognise.

    The published files `<class>_<part>.txt` say it: lines `image 1`, `-1` (not shown) or `0` (difficult).
    """
    names = [line.strip() for line in _table.lines(folder / f"{part}.txt", "voc2007") if line.strip()]
    columns = []
    for name in CLASSES:
        path = folder / f"{name}_{part}.txt"
        rows = [line.split() for line in _table.lines(path, "voc2007") if line.strip()]
        broken = [n for n, row in enumerate(rows, start=1) if len(row) != 2 or row[1] not in TARGETS]
        if broken or [row[0] for row in rows] != names:
            got = f"broken lines {first_ten(broken)}" if broken else f"{len(rows)} others"
            raise DataError(
                f"voc2007: {path}: must have the {len(names)} images of {part}.txt. Got {got}. Unpack it again."
            )
        columns.append([TARGETS[row[1]] for row in rows])
    return np.array(columns, np.int8).T
