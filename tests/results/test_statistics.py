"""Intervals: what they are by other people's code, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from cl_semisup.results.statistics import jackknife_ci, mean_ci


def interquartile_mean(units: np.ndarray) -> float:
    return float(stats.trim_mean(units.ravel(), 0.25))


@pytest.mark.parametrize("n", [2, 6, 11])
def test_the_jackknife_of_a_mean_is_students_interval(n: int) -> None:
    values = np.random.RandomState(n).normal(size=n)
    found, expected = jackknife_ci(np.mean, values), mean_ci(values)
    assert (found.mean, found.ci_half_width) == (pytest.approx(expected.mean), pytest.approx(expected.ci_half_width))


def test_the_jackknife_is_that_of_plain_loops() -> None:
    units = np.random.RandomState(0).normal(size=(6, 4))
    without = [interquartile_mean(np.array([unit for j, unit in enumerate(units) if j != i])) for i in range(6)]
    error = math.sqrt(5 / 6 * sum((value - sum(without) / 6) ** 2 for value in without))
    assert jackknife_ci(interquartile_mean, units).ci_half_width == pytest.approx(2.5705818 * error)
    assert math.isnan(jackknife_ci(interquartile_mean, units[:1]).ci_half_width)


def test_the_jackknife_holds_the_interquartile_mean_about_as_often_as_it_says() -> None:
    """6 repetitions of 5 tasks, 600 draws; a percentile bootstrap of the same draws holds it in 87 %."""
    random = np.random.RandomState(0)
    tasks = np.linspace(0, 0.15, 5)

    def draw(n: int) -> np.ndarray:
        return tasks + random.normal(0, 0.01, (n, 1)) + random.normal(0, 0.02, (n, 5))

    truth = interquartile_mean(draw(100_000))
    hits = 0
    for _ in range(600):
        found = jackknife_ci(interquartile_mean, draw(6))
        hits += abs(found.mean - truth) <= found.ci_half_width
    assert 0.92 <= hits / 600 <= 0.98
