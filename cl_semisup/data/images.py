"""The labelled images of a data set, or rows of features in their place: arrays, checked once, hashed by content."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import DataError


@dataclass(frozen=True)
class Facts:
    """What a suite must know of a data set before it is loaded. `train` and `test` are numbers of images.

    `smallest_class` is the number of training images of the rarest class: the largest `labels_per_class`.
    `class_sizes` are the training images of each class; () where all classes are as large as the smallest.
    `untested` are the classes of the training part that the test part lacks. `rows` is the number of stored rows of an
    image, of features: more than one are its views.
    """

    train: int
    test: int
    classes: int
    channels: int
    side: int
    smallest_class: int
    class_sizes: tuple[int, ...] = ()
    untested: tuple[str, ...] = field(default=(), compare=False, repr=False)
    rows: int = field(default=1, repr=False)

    @property
    def inputs(self) -> str:
        """`images`, or `features`: rows of numbers are stored as channels of a single pixel."""
        return "images" if self.side > 1 else "features"

    @property
    def labelled(self) -> int:
        """Training images with a class."""
        return sum(self.class_sizes) or self.smallest_class * self.classes

    def labels(self) -> NDArray[np.int64]:
        """(M,) sorted training labels of such a data set; -1 for images without a class."""
        sizes = self.class_sizes or (self.smallest_class,) * self.classes
        return np.repeat(np.arange(-1, self.classes), [self.train - self.labelled, *sizes])


@dataclass(frozen=True, eq=False)
class Images:
    """A train and a test part. Images are uint8 (M, channels, side, side); labels int64 (M,), -1 where unknown.

    Features are float32 (M, F, 1, 1): a column is a channel of a single pixel. `train_rows` and `test_rows` (M, V, F)
    are all stored rows of each image, if there are several; the first of them is the one in `train_images`.
    """

    train_images: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_images: NDArray[Any]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train_rows: NDArray[np.float32] | None = None
    test_rows: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            square = images.ndim == 4 and images.shape[2] == images.shape[3]
            features = images.ndim == 4 and images.dtype == np.float32 and images.shape[2:] == (1, 1)
            if not features and (images.dtype != np.uint8 or not square or images.shape[1] not in (1, 3)):
                rule = "images must be uint8 (M, 1 or 3, side, side), features float32 (M, F, 1, 1)"
                raise DataError(f"{part}: {rule}. Got {images.dtype} {images.shape}. Convert them.")
            if labels.shape != images.shape[:1]:
                raise DataError(f"{part}: one label an image. Got {labels.shape} labels, {len(images)} images.")
            if len(images) == 0:
                raise DataError(f"{part}: must hold at least one image. Got none.")
            lowest = -1 if part == "train" else 0
            if labels.min() < lowest or labels.max() >= classes:
                got = f"{labels.min()}..{labels.max()}"
                raise DataError(f"{part}: labels must lie in {lowest}..{classes - 1}. Got {got}. Renumber them.")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"train and test images differ: {self.train_images.shape[1:]}, {self.test_images.shape[1:]}."
            )
        if self.train_images.dtype != self.test_images.dtype:
            raise DataError(f"train and test differ: {self.train_images.dtype}, {self.test_images.dtype}. Convert one.")

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def content_hash(self) -> str:
        """12 hex digits of the SHA-256 of every image and label: the same pixels, the same hash, on any machine."""
        digest = hashlib.sha256()
        rows = (rows for rows in (self.train_rows, self.test_rows) if rows is not None)
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels, *rows):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:12]

    def facts(self) -> Facts:
        labelled = self.train_labels[self.train_labels >= 0]
        sizes = tuple(np.bincount(labelled, minlength=self.classes).tolist())
        _, channels, side, _ = self.train_images.shape
        uneven = sizes if len(set(sizes)) > 1 else ()
        missing = untested(self.class_names, self.train_labels, self.test_labels)
        train, test = len(self.train_images), len(self.test_images)
        rows = 1 if self.train_rows is None else self.train_rows.shape[1]
        return Facts(train, test, self.classes, channels, side, min(sizes), uneven, missing, rows)


def untested(names: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the classes that labels of train have and labels of test lack."""
    return tuple(names[label] for label in np.setdiff1d(train[train >= 0], test))
