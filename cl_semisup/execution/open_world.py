"""Open world: unlabelled training images of another data set, of none of the run's classes, the foreign images."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cl_semisup.data.formats import fitted
from cl_semisup.data.images import Images
from cl_semisup.data.labels import Subset
from cl_semisup.errors import InputError
from cl_semisup.execution.data import Data
from cl_semisup.seeds import seed

CHUNK = 1000  # images converted at once


def count(setting: dict[str, Any], unlabelled: int) -> int:
    """How many foreign images a run takes that has so many unlabelled ones of its own; rounded half up."""
    return int(setting["count"] or np.floor(setting["share"] * unlabelled + 0.5))


def replaced(drawn: Subset, setting: dict[str, Any], seed_key: tuple[object, ...]) -> Subset:
    """The run's own images without those whose places foreign ones take: none if foreign images are added.

    The order in which they go is the same for every share, so a smaller share replaces some of those of a larger one.
    """
    if setting["count"]:
        return drawn
    unlabelled = np.flatnonzero(drawn.visible_labels < 0)
    order = np.random.default_rng(seed("replaced unlabelled", *seed_key)).permutation(drawn.dataset_size)
    rank = np.argsort(order)[drawn.indices[unlabelled]]
    gone = unlabelled[np.argsort(rank)[: count(setting, len(unlabelled))]]
    kept = np.setdiff1d(np.arange(len(drawn.indices)), gone)
    return Subset(drawn.indices[kept], drawn.visible_labels[kept], drawn.dataset_size)


def rows(available: int, wanted: int, name: str, seed_key: tuple[object, ...]) -> NDArray[np.intp]:
    """Which of the other data set's images are taken, ascending: the same for all losses, more for a larger share.

    InputError if there are too few.
    """
    if wanted > available:
        rule = f"must not exceed the {available} training images of {name}"
        raise InputError(f"unlabelled_from: {rule}. Got {wanted}. Lower its share or count.")
    order = np.random.default_rng(seed("foreign unlabelled", name, *seed_key)).permutation(available)
    return np.sort(order[:wanted])


def appended(data: Data, images: Images, chosen: NDArray[np.intp]) -> Data:
    """The data with some training images of another data set behind their own, without labels.

    They are converted to the format of the run's own. All training images are copied into memory.
    """
    labels, larger = data.train_labels, data.larger_images
    best = images.train_images if images.larger_images is None else images.larger_images
    return replace(
        data,
        train_images=_with(data.train_images, images.train_images, chosen),
        larger_images=None if larger is None else _with(larger, best, chosen),
        train_labels=torch.cat([labels, torch.full((len(chosen),), -1, dtype=labels.dtype, device=labels.device)]),
    )


def _with(own: Tensor, images: NDArray[Any], chosen: NDArray[np.intp]) -> Tensor:
    """Images and, behind them, the chosen ones of others, in their format."""
    _, channels, side, _ = own.shape
    parts = [images[chosen[first : first + CHUNK]] for first in range(0, len(chosen), CHUNK)]
    formatted = (fitted(torch.from_numpy(part), channels, side, "unlabelled_from") for part in parts)
    return torch.cat([own, *(part.to(own.device) for part in formatted)])
