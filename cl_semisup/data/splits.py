"""Test parts for data that come without one: a stratified share of the images, or folds.

A split is a function of the labels and of names, so it is the same for every run. It does not depend on a repetition.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import DataError
from cl_semisup.seeds import seed

Labels = NDArray[np.int64]


def test_rows(labels: Labels, fraction: float, *names: object) -> NDArray[np.bool_]:
    """(M,) which images are for testing: the share of each class, rounded half up, that leaves an image for training.

    The rows of a smaller fraction are among those of a larger one. Images without a label stay in training. DataError
    if no class has an image to spare.

    Args:
        labels: (M,), -1 for none
        names: the seed
    """
    chosen = np.zeros(len(labels), np.bool_)
    for members in _orders(labels, "test part", names):
        chosen[members[: min(len(members) - 1, max(1, math.floor(fraction * len(members) + 0.5)))]] = True
    if not chosen.any():
        rule = "needs a class with two images, one of which is for testing"
        raise DataError(f"test_fraction: {rule}. Got {fraction:g} of {len(labels)} images. Add images, or mend labels.")
    return chosen


def folds(labels: Labels, count: int, *names: object) -> Labels:
    """(M,) the fold 0 .. count-1 of each image, and -1 without a label; sizes differ by 1 at most, also in each class.

    DataError if some fold would be empty.
    """
    order = np.concatenate([np.zeros(0, np.intp), *_orders(labels, "folds", names)])
    if len(order) < count:
        raise DataError(f"folds: must leave an image in each fold. Got {count} for {len(order)} images. Lower it.")
    fold = np.full(len(labels), -1, np.int64)
    fold[order] = np.arange(len(order)) % count
    return fold


def fingerprint(rows: NDArray[np.bool_] | Labels) -> str:
    """12 hex digits of a split."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:12]


def _orders(labels: Labels, purpose: str, names: tuple[object, ...]) -> list[NDArray[np.intp]]:
    """The images of each class in a random order."""
    random = np.random.default_rng(seed(purpose, *names))
    return [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels) if label >= 0]
