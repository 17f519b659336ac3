"""What paired repetitions resolve: against simulation, and from made records."""

import math

import numpy as np
import pytest
from scipy import stats

from cl_semisup.search import power
from cl_semisup.search.confidence import half_width
from tests.helpers.records import run


@pytest.mark.parametrize(("difference", "pairs"), [(1.0, 6), (1.0, 10), (0.5, 20), (3.0, 3)])
def test_the_power_is_that_of_simulated_paired_tests(difference: float, pairs: int) -> None:
    draws = np.random.default_rng(5).normal(difference, 1.0, (4000, pairs))
    found = np.mean(stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05)
    assert power.power(difference, 1.0, pairs) == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize("pairs", [2, 3, 6, 50])
def test_the_smallest_difference_resolved_has_the_power_asked_for(pairs: int) -> None:
    smallest = power.resolvable(0.02, pairs)
    assert power.power(smallest, 0.02, pairs) == pytest.approx(0.8, abs=1e-3)
    assert power.resolvable(0.04, pairs) == pytest.approx(2 * smallest, rel=1e-6)


def test_the_repetitions_for_a_difference_are_the_fewest() -> None:
    for difference in (0.005, 0.01, 0.05):
        n = power.repetitions_for(difference, 0.02)
        assert power.power(difference, 0.02, n) >= 0.8
        assert power.power(difference, 0.02, n - 1) < 0.8
    assert power.repetitions_for(1e-9, 1.0) == power.MAX_REPETITIONS
    n = power.pairs_for_width(0.01, 0.02)
    assert half_width(n, 0.02) <= 0.01 < half_width(n - 1, 0.02)


def test_a_single_pair_resolves_nothing_and_equal_differences_everything() -> None:
    assert math.isinf(power.resolvable(0.02, 1))
    assert power.power(0.1, 0.02, 1) == 0.0
    assert power.power(0.1, 0.0, 3) == 1.0


def test_the_spread_is_of_differences_in_the_same_repetition_at_the_best_configs() -> None:
    scores = {"nt_xent": [0.5, 0.7, 0.9], "clop": [0.52, 0.70, 0.95], "supcon": [0.1, 0.9, 0.2]}
    runs = [(run(loss, n), score) for loss, values in scores.items() for n, score in enumerate(values)]
    worse = [(run("clop", n, learning_rate=9.0), score) for n, score in enumerate([0.0, 0.4, 0.1])]
    only_clop = [one for one in [*runs, *worse] if one[0].loss_name != "supcon"]
    found = power.spread(only_clop, "nt_xent")
    assert found is not None
    assert found.deviation == pytest.approx(np.std([0.02, 0.0, 0.05], ddof=1))
    assert found.comparisons == 1
    all_three = power.spread([*runs, *worse], "nt_xent")
    assert all_three is not None
    assert all_three.comparisons == 2  # clop and supcon to nt_xent; not clop to supcon
    assert power.spread(runs[:2]) is None
