from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources

NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True)
class Stl10:
    """STL-10: photographs of 96x96 pixels in colour, 10 classes, made for learning with few labels.

    5,000 labelled and 100,000 unlabelled images for training (the latter also of other classes), 8,000 for testing. In
    memory: 2.9 GB, and twice that while it is read. An `stl10.npz` in data_dir goes before the published files; its
    unlabelled images have the label -1.

    Source: Coates, Ng, Lee 2011, An Analysis of Single-Layer Networks; files as torchvision has them

    Args:
        unlabelled: train on the unlabelled images too
    """

    unlabelled: bool = True
    views: ClassVar[dict[str, Any]] = {**_sources.NATURAL, "blur": 0.5}  # 96 pixels are enough to blur, as SimCLR does

    def facts(self, data_dir: Path) -> Facts:
        archive = self._known.archive(data_dir)
        if self.unlabelled or not archive.exists():
            return self._known.facts(data_dir)
        images = _sources.read_archive(archive, pixels=False)
        return replace(images.facts(), train=int((images.train_labels >= 0).sum()))

    def prepare(self, data_dir: Path, download: bool) -> None:
        self._known.prepare(data_dir, download)

    def load(self, data_dir: Path) -> Images:
        images = self._known.load(data_dir)
        labelled = images.train_labels >= 0
        if self.unlabelled or labelled.all():
            return images
        return replace(images, train_images=images.train_images[labelled], train_labels=images.train_labels[labelled])

    @property
    def _known(self) -> _sources.Known:
        train = 105_000 if self.unlabelled else 5_000
        return _sources.Known(
            "stl10",
            Facts(train=train, test=8_000, classes=10, channels=3, side=96, smallest_class=500),
            tuple(f"stl10_binary/{part}.bin" for part in ("train_X", "train_y", "unlabeled_X", "test_X", "test_y")),
            _fetch,
            self._read,
        )

    def _read(self, data_dir: Path) -> Images:
        from torchvision.datasets import STL10

        train, test = STL10(data_dir, split="train"), STL10(data_dir, split="test")
        train_images, train_labels = np.ascontiguousarray(train.data), train.labels.astype(np.int64)
        if self.unlabelled:
            train_images, train_labels = _with_unlabelled(train_images, train_labels, data_dir)
        return Images(train_images, train_labels, np.ascontiguousarray(test.data), test.labels.astype(np.int64), NAMES)


def _fetch(data_dir: Path) -> None:
    from torchvision.datasets import STL10

    STL10(data_dir, split="test", download=True)  # one archive holds all parts


def _with_unlabelled(images: Any, labels: Any, data_dir: Path) -> tuple[Any, Any]:
    """Not torchvision's split "train+unlabeled": it copies the 2.8 GB once more."""
    from torchvision.datasets import STL10

    unlabelled = STL10(data_dir, split="unlabeled").data
    count, total = len(images), len(images) + len(unlabelled)
    all_images, all_labels = np.empty((total, *images.shape[1:]), np.uint8), np.full(total, -1, np.int64)
    all_images[:count], all_labels[:count] = images, labels
    all_images[count:] = unlabelled
    return all_images, all_labels
