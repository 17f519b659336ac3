"""Label budgets and their draws: the label sets of runs (`data/labels.py`), several times, nested over budgets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import labels as label_sets
from cl_semisup.errors import InputError
from cl_semisup.scoring.label_values import Labels

DEFAULT_FRACTIONS = (0.01, 0.1, 1.0)
DEFAULT_PER_CLASS = (1, 5, 10)


@dataclass(frozen=True)
class Budget:
    """A share of each class's labels, at least one a class, or a number of each class."""

    fraction: float | None = None
    per_class: int | None = None

    def __str__(self) -> str:
        return f"{100 * self.fraction:g} %" if self.fraction is not None else f"{self.per_class} a class"


@dataclass(frozen=True, eq=False)
class Draw:
    """One label set: the rows (L,) of the training part that have a label.

    `budgets` are those that give this set; `repetition` 0 is the only one where a budget takes all labels.
    """

    budgets: tuple[Budget, ...]
    repetition: int
    rows: NDArray[np.intp]
    fingerprint: str

    @property
    def label(self) -> str:
        return ", ".join(map(str, self.budgets))


def parse(text: str) -> Budget:
    """`1%`, `0.01` and `5/class`; InputError otherwise."""
    try:
        if text.endswith("/class"):
            return _checked(Budget(per_class=int(text.removesuffix("/class"))), text)
        scale = 100 if text.endswith("%") else 1
        return _checked(Budget(fraction=float(text.removesuffix("%")) / scale), text)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(_rule(text)) from None


def _checked(budget: Budget, text: str) -> Budget:
    if not (0 < budget.fraction <= 1 if budget.fraction is not None else (budget.per_class or 0) >= 1):
        raise InputError(_rule(text))
    return budget


def _rule(text: str) -> str:
    return f"budgets: must be a share like 1% or 0.01, or a number like 5/class. Got {text!r}."


def draw_all(labels: Labels, budgets: Sequence[Budget] | None, repetitions: int, seed_name: str) -> list[list[Draw]]:
    """The draws of every budget, the smallest first; budgets that give the same label sets are one.

    Args:
        labels: (M,) classes of the training part, -1 where unknown
        budgets: None for the default ones, of which those that some class is too small for are left out
        repetitions: draws of a budget that does not take all labels
        seed_name: the data set in the seed of the draws; runs on a data set of that name have the same label sets
    """
    smallest = int(np.bincount(labels[labels >= 0])[np.unique(labels[labels >= 0])].min())
    if budgets is None:
        budgets = [Budget(per_class=count) for count in DEFAULT_PER_CLASS if count < smallest]
        budgets += [Budget(fraction=share) for share in DEFAULT_FRACTIONS]
    groups: dict[tuple[str, ...], list[Draw]] = {}
    for budget in dict.fromkeys(budgets):
        drawn = [_draw(labels, budget, repetition, seed_name) for repetition in range(repetitions)]
        if len(drawn[0].rows) == int((labels >= 0).sum()):
            drawn = drawn[:1]
        key = tuple(draw.fingerprint for draw in drawn)
        if key in groups:
            same = (*groups[key][0].budgets, budget)
            drawn = [Draw(same, draw.repetition, draw.rows, draw.fingerprint) for draw in drawn]
        groups[key] = drawn
    return sorted(groups.values(), key=lambda drawn: len(drawn[0].rows))


def _draw(labels: Labels, budget: Budget, repetition: int, seed_name: str) -> Draw:
    subset = label_sets.draw(labels, seed_name, repetition, fraction=budget.fraction, per_class=budget.per_class)
    rows = subset.indices[subset.visible_labels >= 0]
    return Draw((budget,), repetition, rows, subset.fingerprint)
