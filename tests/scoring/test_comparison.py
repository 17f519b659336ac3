"""Sets of features on the same images are compared in pairs; why others are not is told."""

from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cl_semisup.scoring import comparison
from cl_semisup.scoring.comparison import MAX_PAIRS
from cl_semisup.scoring.scores import SCORES, DrawScores, Scores

TEST = np.arange(40) % 4


def scores(name: str, seed: int = 0, draws: int = 3, **changes: Any) -> Scores:
    """Made of random right and wrong answers; `changes` are those of the features."""
    random = np.random.default_rng(seed)
    features = {"name": name, "class_names": ("a", "b", "c", "d"), "train_labels": TEST[:20], "test_labels": TEST}
    budget = tuple(
        DrawScores(cast("Any", None), {score: random.random(len(TEST)) < 0.6 for score in SCORES}, {})
        for _ in range(draws)
    )
    return Scores(cast("Any", SimpleNamespace(**features | changes)), (budget,), {}, "ok", "", 1.0)


@pytest.mark.parametrize("number", [2, 5, 6])
def test_up_to_ten_pairs_are_all_compared_and_of_more_each_with_the_first(number: int) -> None:
    sets = [scores(f"set{n}", n) for n in range(number)]
    compared, notes = comparison.compare(sets)
    names = [(one.b.features.name, one.a.features.name) for one in compared]
    pairs = list(combinations([one.features.name for one in sets], 2))
    assert names == (pairs if len(pairs) <= MAX_PAIRS else [("set0", f"set{n}") for n in range(1, number)])
    assert notes == []


@pytest.mark.parametrize("draws", [1, 3])
def test_a_difference_is_paired_by_draw_or_by_test_image(draws: int) -> None:
    first, second = scores("first", 1, draws), scores("second", 2, draws)
    ((compared,), _) = comparison.compare([first, second])
    (found,) = compared.differences
    for name in SCORES:
        own, other = ([draw.right[name].astype(float) for draw in one.budgets[0]] for one in (second, first))
        units = own[0] - other[0] if draws == 1 else np.mean(own, axis=1) - np.mean(other, axis=1)
        assert found[name].mean == pytest.approx(units.mean())
        assert found[name].n == len(units)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"class_names": ("a", "b", "c", "e")}, "their classes differ"),
        ({"train_labels": TEST[:19]}, "they have 20 and 19 train rows"),
        ({"test_labels": TEST[::-1]}, "their test labels differ from row 0 on"),
        ({"test_labels": np.concatenate([TEST[:-1], [0]])}, "their test labels differ from row 39 on"),
    ],
)
def test_features_of_other_images_are_not_compared(changes: dict[str, Any], reason: str) -> None:
    compared, notes = comparison.compare([scores("first"), scores("second", **changes)])
    assert compared == []
    assert notes == [f"first and second are not compared: {reason}."]
