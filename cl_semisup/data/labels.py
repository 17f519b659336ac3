"""The training images of a run, and which of them have a visible label: the same for all losses that are compared.

The draw is one random order of each class, seeded by (data set, repetition). A label budget takes the first images of
each order, and so does an imbalance. So label sets are stratified, nested over budgets, and independent of loss,
learning rate and batch size. The axes compose in this order:

    0. held out        with `validation: held_out` the last tenth of each order trains nothing
    1. imbalance       class c keeps the share q_c of its images and of its label budget, at least one of each
    2. unlabelled classes  some classes lose all their labels, and keep their images
    3. unlabelled ratio  unlabelled images are dropped, every class in proportion
    4. label noise     some labels are wrong; which images it hits does not depend on the budget

Without an axis the draw is what it was before that axis existed.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import InputError
from cl_semisup.seeds import seed

Labels = NDArray[np.int64]
UNLABELLED, DROPPED = -1, -2
HELD_OUT = 0.1  # share of each class, as in most papers that hold something out


@dataclass(frozen=True, eq=False)
class Subset:
    """The training images of a run.

    Args:
        indices: (M',) their positions in the data set, ascending
        visible_labels: (M',) the label of each that the run sees, -1 for none; under label noise some are wrong
        dataset_size: M, images of the data set
        held_out: (V,) positions of the images that train nothing and choose configs, ascending
    """

    indices: NDArray[np.intp]
    visible_labels: Labels
    dataset_size: int
    held_out: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))

    @property
    def fingerprint(self) -> str:
        """12 hex digits: equal exactly if images and visible labels are equal."""
        assigned = np.full(self.dataset_size, DROPPED, dtype="<i8")
        assigned[self.indices] = self.visible_labels
        return hashlib.sha256(assigned.tobytes()).hexdigest()[:12]


def of_run(labels: Labels, run: Mapping[str, Any]) -> Subset:
    """The subset of a run, from its data set's (M,) true labels. `run` is the one of a record."""
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
        hold_out=run.get("validation") == "held_out",
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
    hold_out: bool = False,
) -> Subset:
    """The images and labels of a run.

    Args:
        labels: (M,) true labels; -1 stays -1, and only unlabelled_ratio drops such images
        dataset, repetition: the seed of the draw
        fraction: share of each class, rounded half up, at least one image a class; or
        per_class: images of each class, of the most frequent one under imbalance
        imbalance: settings.Imbalance as a mapping, of labels and, without unlabelled_imbalance, of images
        unlabelled_imbalance: the same, of images; an image with a label is kept in any case
        unlabelled_classes: classes without any label
        unlabelled_ratio: how many unlabelled images are kept for each labelled one, at most
        noise: settings.LabelNoise as a mapping
        hold_out: whether a part is held out; all shares are then of the images that remain
    """
    orders = _orders(labels, dataset, repetition)
    held_out = _take_held_out(orders) if hold_out else np.zeros(0, np.intp)
    seed_key = (dataset, repetition)
    label_shares = image_shares = _shares(list(orders), imbalance, seed_key)
    if unlabelled_imbalance is not None:
        image_shares = _shares(list(orders), unlabelled_imbalance, seed_key)
    without_labels = _unlabelled_classes(list(orders), unlabelled_classes or 0, seed_key)

    labelled: list[NDArray[np.intp]] = []
    unlabelled = [np.flatnonzero(labels < 0)]
    for label, members in orders.items():
        budget = _budget(label, len(members), fraction, per_class)
        labelled_count = 0 if label in without_labels else max(1, _round(label_shares[label] * budget))
        image_count = max(1, _round(image_shares[label] * len(members)))
        labelled.append(members[:labelled_count])
        unlabelled.append(members[labelled_count:image_count])
    if unlabelled_ratio is not None:
        unlabelled[0] = np.random.default_rng(seed("unlabelled", *seed_key)).permutation(unlabelled[0])
        unlabelled = _subsample(unlabelled, unlabelled_ratio * sum(map(len, labelled)))

    assigned = np.full(len(labels), DROPPED, dtype=np.int64)
    assigned[np.concatenate(unlabelled)] = UNLABELLED
    for members in labelled:
        assigned[members] = labels[members]
    if noise is not None:
        assigned = _with_noise(assigned, noise["kind"], noise["fraction"], seed_key)
    indices = np.flatnonzero(assigned != DROPPED)
    return Subset(indices, assigned[indices], len(labels), held_out)


def held_out_of(size: int) -> int:
    """How many labelled images of a class with so many are held out: a tenth, at least one, never the last."""
    return min(size - 1, max(1, _round(HELD_OUT * size))) if size else 0


def _take_held_out(orders: dict[int, NDArray[np.intp]]) -> NDArray[np.intp]:
    """The positions of the last images of each order, ascending, which are removed from it.

    They are the last, so that the same budget of labels a class takes the same images with and without them.
    """
    taken = []
    for label, members in orders.items():
        count = held_out_of(len(members))
        orders[label] = members[: len(members) - count]
        taken.append(members[len(members) - count :])
    return np.sort(np.concatenate([np.zeros(0, np.intp), *taken]))


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


def _shares(classes: list[int], imbalance: Mapping[str, Any] | None, seed_key: tuple[object, ...]) -> dict[int, float]:
    """Class -> the share q_c in [1 / factor, 1] that it keeps; all 1 without imbalance or with a single class."""
    if imbalance is None or len(classes) < 2:
        return dict.fromkeys(classes, 1.0)
    ranked = list(classes)
    if imbalance["order"] == "drawn":
        ranked = np.random.default_rng(seed("class order", *seed_key)).permutation(classes).tolist()
    elif imbalance["order"] == "reversed":
        ranked.reverse()
    last, factor = len(ranked) - 1, imbalance["factor"]
    if imbalance["shape"] == "step":
        steps = {label: float(2 * rank > last) for rank, label in enumerate(ranked)}
    else:
        steps = {label: rank / last for rank, label in enumerate(ranked)}
    return {label: factor ** -steps[label] for label in classes}


def _unlabelled_classes(classes: list[int], count: int, seed_key: tuple[object, ...]) -> set[int]:
    """`count` of the classes, nested: those of a smaller count are among those of a larger one."""
    if count and count >= len(classes):
        rule = f"must leave a class; the data have {len(classes)}"
        raise InputError(f"unlabelled_classes: {rule}. Got {count}. Lower it.")
    return set(np.random.default_rng(seed("unseen classes", *seed_key)).permutation(classes)[:count].tolist())


def _subsample(groups: list[NDArray[np.intp]], max_count: float) -> list[NDArray[np.intp]]:
    """The first images of every group, about in proportion, `max_count` (rounded half up) in all, if there are more."""
    total, count = sum(map(len, groups)), _round(max_count)
    if count >= total:
        return groups
    ends = np.cumsum([0, *map(len, groups)])
    ends = np.floor(ends * (count / total) + 0.5).astype(int)  # rounding the sums keeps the total exact
    return [group[: after - before] for group, before, after in zip(groups, ends[:-1], ends[1:], strict=True)]


def _with_noise(assigned: Labels, kind: str, fraction: float, seed_key: tuple[object, ...]) -> Labels:
    """Labels of which a fraction is wrong; labels that are wrong under a smaller fraction are wrong under a larger one.

    A wrong label is another class that has labels: a random one (symmetric) or the next one (pair_flip).
    """
    random = np.random.default_rng(seed("label noise", *seed_key))
    chance, turn = (
        random.random(len(assigned)),
        random.random(len(assigned)),
    )  # of all images, also of those without a label
    seen = np.unique(assigned[assigned >= 0])
    if len(seen) < 2:
        raise InputError(f"label_noise: needs two classes with labels. Got {len(seen)}. Leave it out.")
    hit = (assigned >= 0) & (chance < fraction)
    step = 1 if kind in ("pair_flip", "class_dependent") else 1 + np.floor(turn[hit] * (len(seen) - 1)).astype(int)
    noisy = assigned.copy()
    noisy[hit] = seen[(np.searchsorted(seen, assigned[hit]) + step) % len(seen)]
    return noisy


def _round(value: float) -> int:
    return math.floor(value + 0.5)
