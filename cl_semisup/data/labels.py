"""Which training images a run has and which of them have a label: drawn from names, the same for all that is compared.

The draw is one random order of each class, from (data set, repetition). A budget takes the first images of every order,
an imbalance keeps the first ones; so label sets are stratified, nested over budgets, and independent of loss, learning
rate and batch size. The axes compose in this order:

    1. imbalance       class c keeps the share q_c of its images and of its label budget, at least one of each
    2. unlabelled classes  some classes lose all their labels, and keep their images
    3. unlabelled ratio  unlabelled images are dropped, every class in proportion
    4. label noise     some labels are wrong; which images it hits does not depend on the budget

An axis that is not asked changes nothing: the draw is then the same as without it.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import InputError
from cl_semisup.seeds import seed

Labels = NDArray[np.int64]
UNLABELLED, DROPPED = -1, -2


@dataclass(frozen=True, eq=False)
class Drawn:
    """A run's part of the training images.

    Args:
        kept: (M',) positions of its images in the data set, ascending
        visible_labels: (M',) the label that the run sees of each, -1 for none; under label noise some are wrong
        size: M, images of the data set
    """

    kept: NDArray[np.intp]
    visible_labels: Labels
    size: int

    @property
    def fingerprint(self) -> str:
        """12 hex digits: equal exactly when the same images are kept and show the same labels."""
        whole = np.full(self.size, DROPPED, dtype="<i8")
        whole[self.kept] = self.visible_labels
        return hashlib.sha256(whole.tobytes()).hexdigest()[:12]


def of_run(labels: Labels, run: Mapping[str, Any]) -> Drawn:
    """What a run draws from its data set's (M,) true labels; the `run` of a record is enough to do it again."""
    return draw(
        labels,
        next(iter(run["dataset"])),
        run["repetition"],
        fraction=run.get("label_fraction"),
        per_class=run.get("labels_per_class"),
        imbalance=run.get("imbalance"),
        unlabelled_imbalance=run.get("unlabelled_imbalance"),
        unlabelled_classes=run.get("unlabelled_classes", run.get("unseen_classes")),
        unlabelled_ratio=run.get("unlabelled_ratio"),
        noise=run.get("label_noise"),
    )


def draw(
    labels: Labels,
    dataset: str,
    repetition: int,
    *,
    fraction: float | None = None,
    per_class: int | None = None,
    imbalance: Mapping[str, Any] | None = None,
    unlabelled_imbalance: Mapping[str, Any] | None = None,
    unlabelled_classes: int | None = None,
    unlabelled_ratio: float | None = None,
    noise: Mapping[str, Any] | None = None,
) -> Drawn:
    """The images and labels of a run.

    Args:
        labels: (M,) true labels; -1 stays -1, and only unlabelled_ratio drops such images
        dataset, repetition: the names of the draw
        fraction: share of each class, rounded half up, at least one image a class; or
        per_class: images of each class, of the most frequent one under imbalance
        imbalance: settings.Imbalance as a mapping, of labels and, unless the next says otherwise, of images
        unlabelled_imbalance: the same, of images; an image with a label is kept in any case
        unlabelled_classes: classes without any label
        unlabelled_ratio: at most so many unlabelled images are kept for each labelled one
        noise: settings.LabelNoise as a mapping
    """
    orders = _orders(labels, dataset, repetition)
    names = (dataset, repetition)
    of_labels = _shares(list(orders), imbalance, names)
    of_images = of_labels if unlabelled_imbalance is None else _shares(list(orders), unlabelled_imbalance, names)
    without_labels = _unlabelled_classes(list(orders), unlabelled_classes or 0, names)

    labelled: list[NDArray[np.intp]] = []
    unlabelled = [np.flatnonzero(labels < 0)]
    for label, members in orders.items():
        budget = _budget(label, len(members), fraction, per_class)
        shown_count = max(1, _round(of_labels[label] * budget))
        kept_count = max(1, _round(of_images[label] * len(members)))
        seen = 0 if label in without_labels else shown_count
        labelled.append(members[:seen])
        unlabelled.append(members[seen:kept_count])
    if unlabelled_ratio is not None:
        unlabelled[0] = np.random.default_rng(seed("unlabelled", *names)).permutation(unlabelled[0])
        unlabelled = _fewer(unlabelled, unlabelled_ratio * sum(map(len, labelled)))

    whole = np.full(len(labels), DROPPED, dtype=np.int64)
    whole[np.concatenate(unlabelled)] = UNLABELLED
    for members in labelled:
        whole[members] = labels[members]
    if noise is not None:
        whole = _noisy(whole, noise["kind"], noise["fraction"], names)
    kept = np.flatnonzero(whole != DROPPED)
    return Drawn(kept, whole[kept], len(labels))


def _orders(labels: Labels, dataset: str, repetition: int) -> dict[int, NDArray[np.intp]]:
    random = np.random.default_rng(seed("labels", dataset, repetition))
    return {int(c): random.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels) if c >= 0}


def _budget(label: int, size: int, fraction: float | None, per_class: int | None) -> int:
    if per_class is None:
        return max(1, _round((fraction or 0.0) * size))
    if per_class > size:
        have = f"class {label} has {size} training images"
        raise InputError(f"labels_per_class: must fit the data; {have}. Got {per_class}. Lower it.")
    return per_class


def _shares(classes: list[int], imbalance: Mapping[str, Any] | None, names: tuple[object, ...]) -> dict[int, float]:
    """Class -> q_c in [1 / factor, 1], the share that it keeps; all 1 without imbalance or with a single class."""
    if imbalance is None or len(classes) < 2:
        return dict.fromkeys(classes, 1.0)
    ranked = list(classes)
    if imbalance["order"] == "drawn":
        ranked = np.random.default_rng(seed("class order", *names)).permutation(classes).tolist()
    elif imbalance["order"] == "reversed":
        ranked.reverse()
    last, factor = len(ranked) - 1, imbalance["factor"]
    if imbalance["shape"] == "step":
        steps = {label: float(2 * rank > last) for rank, label in enumerate(ranked)}
    else:
        steps = {label: rank / last for rank, label in enumerate(ranked)}
    return {label: factor ** -steps[label] for label in classes}


def _unlabelled_classes(classes: list[int], count: int, names: tuple[object, ...]) -> set[int]:
    """`count` of the classes, nested: more of them contain fewer."""
    if count and count >= len(classes):
        rule = f"must leave a class; the data have {len(classes)}"
        raise InputError(f"unlabelled_classes: {rule}. Got {count}. Lower it.")
    return set(np.random.default_rng(seed("unseen classes", *names)).permutation(classes)[:count].tolist())


def _fewer(groups: list[NDArray[np.intp]], most: float) -> list[NDArray[np.intp]]:
    """The first images of every group, about in proportion, `most` (rounded half up) in all; all if that is enough."""
    total, wanted = sum(map(len, groups)), _round(most)
    if wanted >= total:
        return groups
    ends = np.cumsum([0, *map(len, groups)])
    ends = np.floor(ends * (wanted / total) + 0.5).astype(int)  # rounding the sums keeps the total exact
    return [group[: after - before] for group, before, after in zip(groups, ends[:-1], ends[1:], strict=True)]


def _noisy(whole: Labels, kind: str, fraction: float, names: tuple[object, ...]) -> Labels:
    """Labels of which a fraction is wrong; the wrong ones of a smaller fraction stay wrong in a larger one.

    A wrong label is one of the other classes that have labels: any (symmetric) or the next one (pair_flip).
    """
    random = np.random.default_rng(seed("label noise", *names))
    chance, turn = random.random(len(whole)), random.random(len(whole))  # of every image, whether it has a label or not
    seen = np.unique(whole[whole >= 0])
    if len(seen) < 2:
        raise InputError(f"label_noise: needs two classes with labels. Got {len(seen)}. Leave it out.")
    hit = (whole >= 0) & (chance < fraction)
    step = 1 if kind in ("pair_flip", "class_dependent") else 1 + np.floor(turn[hit] * (len(seen) - 1)).astype(int)
    noisy = whole.copy()
    noisy[hit] = seen[(np.searchsorted(seen, whole[hit]) + step) % len(seen)]
    return noisy


def _round(value: float) -> int:
    return math.floor(value + 0.5)
