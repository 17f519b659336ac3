"""How the training images of a run come: in increments of classes, one after the other, or spread over clients.

The parts are a function of (data set, repetition), so all losses that are compared see the same ones. Images without a
true class are spread evenly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Interval
from numpy.typing import NDArray

from cl_semisup.seeds import seed

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Scenario:
    """Training images that come in parts: either increments or clients.

    Args:
        increments: groups of classes, drawn for each repetition, that are trained on one after the other; each for all
            epochs, with a schedule and an optimizer of its own
        clients: shards of the images, trained on apart and averaged after each round (FedAvg)
        alpha: of the Dirichlet distribution of each class over clients; the smaller, the less alike are these
        rounds: how often clients are averaged; the epochs are spread over them
    """

    increments: Annotated[int, Interval(ge=2, le=1000)] | None = None
    clients: Annotated[int, Interval(ge=2, le=1000)] | None = None
    alpha: Annotated[float, Gt(0)] = 1.0
    rounds: Annotated[int, Interval(ge=1, le=100_000)] | None = None


def used(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something: of a run, so that its id does not depend on the others."""
    others = ("alpha", "rounds") if scenario["clients"] is None else ()
    return {key: value for key, value in scenario.items() if value is not None and key not in others}


def problem(scenario: Mapping[str, Any], epochs: int) -> str:
    """The first rule that a scenario breaks by itself; "" if there is none."""
    kinds = [kind for kind in ("increments", "clients") if scenario[kind] is not None]
    if len(kinds) != 1:
        return f"needs increments or clients. Got {'both' if kinds else 'neither'}. Give one."
    rounds = scenario["rounds"]
    if rounds is not None and kinds == ["increments"]:
        return f"rounds: belongs to clients. Got {rounds} beside increments. Leave it out."
    if rounds is not None and epochs % rounds:
        return f"rounds: must divide the {epochs} epochs. Got {rounds}. Change one of them."
    return ""


def groups(classes: int, count: int, dataset: str, repetition: int) -> list[list[int]]:
    """The classes of each increment, in a random order, as many in each as can be."""
    order = np.random.default_rng(seed("increments", dataset, repetition)).permutation(classes)
    return [sorted(group.tolist()) for group in np.array_split(order, count)]


def parts(
    labels: NDArray[np.int64], classes: int, scenario: Mapping[str, Any], dataset: str, repetition: int
) -> list[Rows]:
    """Of the (M,) true labels of a run's training images: the rows of each part, ascending; each row is in one part."""
    random = np.random.default_rng(seed("scenario", dataset, repetition))
    if "increments" in scenario:
        members = groups(classes, scenario["increments"], dataset, repetition)
        found = [[np.flatnonzero(np.isin(labels, group))] for group in members]
    else:
        found = [[] for _ in range(scenario["clients"])]
        for label in np.unique(labels[labels >= 0]):
            rows = random.permutation(np.flatnonzero(labels == label))
            shares = random.dirichlet(np.full(len(found), scenario["alpha"]))
            ends = np.floor(np.cumsum(shares)[:-1] * len(rows) + 0.5).astype(int)
            for part, own in zip(found, np.split(rows, ends), strict=True):
                part.append(own)
    unknown = random.permutation(np.flatnonzero(labels < 0))
    for part, own in zip(found, np.array_split(unknown, len(found)), strict=True):
        part.append(own)
    return [np.sort(np.concatenate(part)) for part in found]
