from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources

NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True)
class Stl10(_sources.Published):
    """STL-10: photographs of 96x96 pixels in colour, 10 classes, made for learning with few labels.

    5,000 labelled and 100,000 unlabelled images for training (the latter also of other classes), 8,000 for testing.
    They take 2.9 GB of memory, and twice as much while they are read. An `stl10.npz` in data_dir replaces the published
    files; its unlabelled images have the label -1.

    Source: Coates, Ng, Lee 2011, An Analysis of Single-Layer Networks; files as torchvision has them

    Args:
        unlabelled: train on the unlabelled images too
    """

    unlabelled: bool = True
    views: ClassVar[dict[str, Any]] = {**_sources.NATURAL, "blur": 0.5}  # 96 pixels are enough to blur, as SimCLR does

    name: ClassVar[str] = "stl10"
    torchvision: ClassVar[str] = "STL10"
    files: ClassVar[tuple[str, ...]] = tuple(
        f"stl10_binary/{part}.bin" for part in ("train_X", "train_y", "unlabeled_X", "test_X", "test_y")
    )

    @property
    def published(self) -> Facts:
        train = 105_000 if self.unlabelled else 5_000
        return Facts(train, test=8_000, classes=10, channels=3, side=96, smallest_class=500)

    def facts(self, data_dir: Path) -> Facts:
        archive = self.archive(data_dir)
        if self.unlabelled or not archive.exists():
            return super().facts(data_dir)
        images = _sources.read_archive(archive, pixels=False)
        return replace(images.facts(), train=int((images.train_labels >= 0).sum()))

    def load(self, data_dir: Path) -> Images:
        images = super().load(data_dir)
        labelled = images.train_labels >= 0
        if self.unlabelled or labelled.all():
            return images
        return replace(images, train_images=images.train_images[labelled], train_labels=images.train_labels[labelled])

    def _fetch(self, data_dir: Path) -> None:
        self._part(data_dir, split="test", download=True)  # one archive holds all parts

    def _read(self, data_dir: Path) -> Images:
        train, test = (self._part(data_dir, split=split) for split in ("train", "test"))
        images, labels = np.ascontiguousarray(train.data), train.labels.astype(np.int64)
        if self.unlabelled:  # not torchvision's split "train+unlabeled", which copies the 2.8 GB once more
            unlabelled, count = self._part(data_dir, split="unlabeled").data, len(images)
            labelled_images, labelled_labels, total = images, labels, count + len(unlabelled)
            images, labels = np.empty((total, *images.shape[1:]), np.uint8), np.full(total, -1, np.int64)
            images[:count], labels[:count] = labelled_images, labelled_labels
            images[count:] = unlabelled
        return Images(images, labels, np.ascontiguousarray(test.data), test.labels.astype(np.int64), NAMES)
