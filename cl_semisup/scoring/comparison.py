"""Two sets of features on the same images: differences paired by draw, or by test image where there is one draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cl_semisup.results.statistics import MeanCI, mean_ci, paired_difference
from cl_semisup.scoring.scores import SCORES, DrawScores, Scores

MAX_PAIRS = 10  # more files are compared with the first alone


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of `a` minus those of `b`: a mean and its interval for each budget and score."""

    a: Scores
    b: Scores
    differences: tuple[dict[str, MeanCI], ...]


def score_ci(draws: Sequence[DrawScores], name: str) -> MeanCI:
    """Over draws; of a single draw, over test images."""
    if len(draws) == 1:
        return mean_ci(draws[0].right[name].astype(float))
    return mean_ci(draw.score(name) for draw in draws)


def compare(results: Sequence[Scores]) -> tuple[list[Comparison], list[str]]:
    """Every pair on the same images (of many files, each with the first), and why others are not compared."""
    pairs = list(combinations(results, 2))
    if len(pairs) > MAX_PAIRS:
        pairs = [(results[0], other) for other in results[1:]]
    compared, notes = [], []
    for a, b in pairs:
        if reason := _difference_of_images(a, b):
            notes.append(f"{a.features.name} and {b.features.name} are not compared: {reason}.")
        else:
            budgets = zip(a.budgets, b.budgets, strict=True)
            compared.append(Comparison(b, a, tuple(_differences(own_b, own_a) for own_a, own_b in budgets)))
    return compared, notes


def _differences(a: Sequence[DrawScores], b: Sequence[DrawScores]) -> dict[str, MeanCI]:
    if len(a) == 1:
        return {name: mean_ci(a[0].right[name].astype(float) - b[0].right[name]) for name in SCORES}
    values = {name: [np.array([draw.score(name) for draw in draws]) for draws in (a, b)] for name in SCORES}
    return {name: paired_difference(*pair) for name, pair in values.items()}


def _difference_of_images(a: Scores, b: Scores) -> str:
    """Why two sets of features are not of the same images in the same order, by their labels; "" if they are."""
    if a.features.class_names != b.features.class_names:
        return "their classes differ"
    for part in ("train", "test"):
        own, other = getattr(a.features, f"{part}_labels"), getattr(b.features, f"{part}_labels")
        if len(own) != len(other):
            return f"they have {len(own)} and {len(other)} {part} rows"
        if (rows := np.flatnonzero(own != other)).size:
            return f"their {part} labels differ from row {rows[0]} on"
    return ""
