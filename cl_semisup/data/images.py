"""The labelled images of a data set, or rows of features in their place: arrays, checked once, hashed by content."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import pixel_facts
from cl_semisup.data.pixel_facts import PixelFacts
from cl_semisup.errors import DataError

MAX_CHANNELS = 16  # bands of an image


@dataclass(frozen=True)
class Facts:
    """What a suite must know of a data set before it is loaded. `train` and `test` are numbers of images.

    `smallest_class` is the number of training images of the rarest class: the largest `labels_per_class`.
    `class_sizes` are the training images of each class; () where all classes are as large as the smallest.
    `untested` are the classes of the training part that the test part lacks, `untrained` those of the test part that no
    label of the training part names. `rows` is the number of stored rows of an image, of features: more than one are
    its views.
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
    untrained: tuple[str, ...] = field(default=(), compare=False, repr=False)

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

    Features are float32 (M, F, 1, 1): a column is a channel of a single pixel.

    Args:
        train_rows, test_rows: (M, V, F) all stored rows of each image, if there are several; the first of them is the
            one in `train_images`
        val_images, val_labels: the user's own validation part, which tunes instead of a share of the training images
        fold: (M,) for data without a test part, the fold of each training image that is tested in its turn, or -1
        split: hash of the split that made the test part or the folds; "" where the data have a test part
        larger_images: (M, channels, S, S) the training images at a larger side, which training views are cropped from
    """

    train_images: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_images: NDArray[Any]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    train_rows: NDArray[np.float32] | None = None
    test_rows: NDArray[np.float32] | None = None
    val_images: NDArray[np.uint8] | None = None
    val_labels: NDArray[np.int64] | None = None
    fold: NDArray[np.int64] | None = None
    split: str = ""
    larger_images: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        for part in self._parts():
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            square = images.ndim == 4 and images.shape[2] == images.shape[3]
            features = images.ndim == 4 and images.dtype == np.float32 and images.shape[2:] == (1, 1)
            bytes_ = images.dtype == np.uint8 and square and 1 <= images.shape[1] <= MAX_CHANNELS
            if not features and not bytes_:
                kinds = f"uint8 (M, 1 to {MAX_CHANNELS}, side, side), features float32 (M, F, 1, 1)"
                rule = f"images must be {kinds}"
                raise DataError(f"{part}: {rule}. Got {images.dtype} {images.shape}. Convert them.")
            if labels.shape != images.shape[:1]:
                raise DataError(f"{part}: one label an image. Got {labels.shape} labels, {len(images)} images.")
            if len(images) == 0:
                raise DataError(f"{part}: must hold at least one image. Got none.")
            lowest = -1 if part == "train" else 0
            if labels.min() < lowest or labels.max() >= classes:
                got = f"{labels.min()}..{labels.max()}"
                raise DataError(f"{part}: labels must lie in {lowest}..{classes - 1}. Got {got}. Renumber them.")
            if self.train_images.shape[1:] != images.shape[1:]:
                shapes = f"{self.train_images.shape[1:]}, {images.shape[1:]}"
                raise DataError(f"train and {part} images differ: {shapes}. Resize or recolour one part.")
            if self.train_images.dtype != images.dtype:
                raise DataError(f"train and {part} differ: {self.train_images.dtype}, {images.dtype}. Convert one.")
        if (larger := self.larger_images) is not None:
            count, channels, side, _ = self.train_images.shape
            square = larger.ndim == 4 and larger.shape[2] == larger.shape[3] > side and larger.dtype == np.uint8
            if not square or larger.shape[:2] != (count, channels):
                rule = f"larger images must be uint8 ({count}, {channels}, S, S) with S above {side}"
                raise DataError(f"train: {rule}. Got {larger.dtype} {larger.shape}. Convert them.")

    def _parts(self) -> tuple[str, ...]:
        """The parts that must hold images."""
        return ("train", *(["test"] if self.fold is None else []), *(["val"] if self.val_images is not None else []))

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def content_hash(self) -> str:
        """12 hex digits of the SHA-256 of every image and label: the same pixels, the same hash, on any machine."""
        digest = hashlib.sha256()
        parts: list[NDArray[Any]] = [self.train_images, self.train_labels, self.test_images, self.test_labels]
        own_val = self.val_images, self.val_labels
        optional = self.train_rows, self.test_rows, *own_val, self.fold, self.larger_images
        for array in [*parts, *(part for part in optional if part is not None)]:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:12]

    @cached_property
    def pixel_facts(self) -> PixelFacts:
        return pixel_facts.of(self.train_images, self.test_images)

    def remember(self, content_hash: str, facts: PixelFacts | None = None) -> None:
        """Take the hash, and the facts of the pixels, from where they are kept, instead of reading every image."""
        vars(self)["content_hash"] = content_hash  # where functools.cached_property keeps it
        if facts is not None:
            vars(self)["pixel_facts"] = facts

    def of_repetition(self, repetition: int) -> "Images":
        """The data of a repetition: these, unless they have folds; then fold `repetition` mod k is the test part.

        The hash stays that of the whole, because repetitions of a run are compared.
        """
        if self.fold is None:
            return self
        tested = self.fold == repetition % (int(self.fold.max()) + 1)
        images = replace(
            self,
            train_images=self.train_images[~tested],
            train_labels=self.train_labels[~tested],
            test_images=self.train_images[tested],
            test_labels=self.train_labels[tested],
            larger_images=None if self.larger_images is None else self.larger_images[~tested],
            fold=None,
        )
        images.remember(self.content_hash)
        return images

    def facts(self) -> Facts:
        """Of data with folds, those of repetition 0, whose training part is one of the smallest."""
        _, channels, side, _ = self.train_images.shape
        train, test = self.train_labels, self.test_labels
        if self.fold is not None:
            train, test = train[self.fold != 0], train[self.fold == 0]
        rows = 1 if self.train_rows is None else self.train_rows.shape[1]
        return replace(facts_of(train, test, self.class_names, channels, side), rows=rows)


def facts_of(
    train: NDArray[np.int64], test: NDArray[np.int64], names: Sequence[str], channels: int, side: int
) -> Facts:
    """The facts that labels tell."""
    sizes = tuple(np.bincount(train[train >= 0], minlength=len(names)).tolist())
    uneven = sizes if len(set(sizes)) > 1 else ()
    facts = Facts(len(train), len(test), len(names), channels, side, min(sizes), uneven)
    return replace(facts, untested=_lacking(names, train, test), untrained=_lacking(names, test, train))


def _lacking(names: Sequence[str], labels: NDArray[np.int64], others: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the classes that the labels have and the others lack."""
    return tuple(names[label] for label in np.setdiff1d(labels[labels >= 0], others))
