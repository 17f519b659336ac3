"""Races over repetitions: the true best stays, clearly worse configs go, and nothing depends on what was not asked."""

import math

import numpy as np
import pytest

from cl_semisup.report.race import behind
from cl_semisup.search import racing


def run_race(table: np.ndarray) -> tuple[list[list[float]], list[int], int]:
    """`table` (configs, repetitions) scores."""
    return racing.race([lambda n, row=row: float(row[n]) for row in table], table.shape[1])


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.03])
def test_the_true_best_stays_in_95_percent_of_races(gap: float) -> None:
    """Nine configs that share most of their noise, as paired repetitions do; with a gap of 0 all are equally good."""
    random = np.random.default_rng(6)
    kept, used = [], []
    for _ in range(400):
        means = 0.8 - gap * np.arange(9)
        shared = random.normal(0, 0.03, 12)
        _, dropped, _ = run_race(means[:, None] + shared + random.normal(0, 0.01, (9, 12)))
        kept.append(dropped[0] == 0)
        used.append(sum(when or 12 for when in dropped) / (9 * 12))
    assert np.mean(kept) >= 0.95
    if gap == 0.03:
        assert np.mean(used) < 0.6  # of the full grid's runs


def test_a_clear_loser_is_dropped_and_not_asked_again() -> None:
    asked = []

    def loser(n: int) -> float:
        asked.append(n)
        return 0.1 + 0.001 * (n % 2)

    known, dropped, at = racing.race([lambda n: 0.9, loser], 12)
    assert dropped[0] == 0
    assert 4 <= dropped[1] <= 6
    assert asked == list(range(dropped[1]))
    assert (len(known[0]), len(known[1]), at) == (12, dropped[1], 12)


def test_a_race_waits_for_the_first_repetition_that_is_not_known() -> None:
    _, dropped, at = racing.race([lambda n: 0.5, lambda n: None if n == 3 else 0.5], 12)
    assert (dropped, at) == ([0, 0], 3)


def test_without_validation_scores_nobody_is_dropped() -> None:
    _, dropped, at = racing.race([lambda n: 0.5, lambda n: math.nan], 8)
    assert (dropped, at) == ([0, 0], 8)


def test_the_interval_beside_a_rival_is_the_one_that_decides() -> None:
    """Its t-interval, 2.5 ± 1.2 points, would say that the rival is worse; the race's does not, and did not drop it."""
    leader, rival = (
        racing.Config(None, scores, 0)  # type: ignore[arg-type]
        for scores in ((0.9, 0.91, 0.92, 0.9, 0.93, 0.9), (0.88, 0.89, 0.88, 0.88, 0.89, 0.89))
    )
    assert behind(rival, leader, 3)[0].endswith("2.5 ± 2.8")
