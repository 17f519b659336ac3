"""Which training images have a label: drawn once per (data set, repetition), the same for everything that is compared.

The draw is one random order of each class; a budget takes the first images of every order. So label sets are
stratified, nested over budgets, and independent of loss, learning rate and batch size.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import InputError
from cl_semisup.seeds import seed

Labels = NDArray[np.int64]


def draw(labels: Labels, dataset: str, repetition: int, *, fraction: float | None, per_class: int | None) -> Labels:
    """The labels a run may see: (M,) int64, -1 for all but the drawn images.

    Args:
        labels: (M,) true labels; -1 stays -1
        dataset, repetition: the names of the draw
        fraction: share of each class, rounded half up, at least one image a class; or
        per_class: images of each class
    """
    order = _orders(labels, dataset, repetition)
    shown = np.full_like(labels, -1)
    for label, members in order.items():
        count = per_class if per_class is not None else max(1, math.floor((fraction or 0.0) * len(members) + 0.5))
        if count > len(members):
            have = f"class {label} has {len(members)} training images"
            raise InputError(f"labels_per_class: must fit the data; {have}. Got {per_class}. Lower it.")
        shown[members[:count]] = label
    return shown


def fingerprint(shown: Labels) -> str:
    """12 hex digits of a label set: equal exactly when the same images show the same labels."""
    return hashlib.sha256(np.ascontiguousarray(shown, dtype="<i8").tobytes()).hexdigest()[:12]


def _orders(labels: Labels, dataset: str, repetition: int) -> dict[int, NDArray[np.intp]]:
    random = np.random.default_rng(seed("labels", dataset, repetition))
    return {int(c): random.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels) if c >= 0}
