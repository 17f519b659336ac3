"""The interval that holds at every look: against a plain integration of its definition, and by simulation."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from cl_semisup.results.statistics import mean_ci
from cl_semisup.search.confidence import PRIOR, confidence_sequence, half_width


def bayes_factor(t: float, n: int) -> float:
    """The density of t under N(0, 1 / PRIOR) standardised means over that under 0, by numerical integration."""

    def weighted(delta: float) -> float:
        return float(stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) * stats.norm.pdf(delta, scale=PRIOR**-0.5))

    return float(integrate.quad(weighted, -20, 20, points=[0, t / math.sqrt(n)], limit=200)[0] / stats.t.pdf(t, n - 1))


@pytest.mark.parametrize("n", [6, 10, 25])
def test_at_the_end_of_the_interval_the_bayes_factor_is_20(n: int) -> None:
    assert bayes_factor(half_width(n, 1.0) * math.sqrt(n), n) == pytest.approx(20, rel=1e-4)


def first_miss(differences: np.ndarray, mean: float) -> bool:
    """Does the interval miss the mean at any look, from the fourth value to the last?"""
    for n in range(4, len(differences) + 1):
        part = differences[:n]
        if abs(part.mean() - mean) > half_width(n, float(part.std(ddof=1))):
            return True
    return False


@pytest.mark.parametrize("kind", ["normal", "uniform", "skewed"])
def test_the_interval_holds_at_all_of_thirty_looks(kind: str) -> None:
    random = np.random.default_rng(3)
    shape = (1500, 30)
    draws = {
        "normal": random.normal(0, 1, shape),
        "uniform": random.uniform(-1, 1, shape),
        "skewed": random.gamma(4.0, 1.0, shape) - 4.0,
    }[kind]
    assert np.mean([first_miss(row, 0.0) for row in draws]) <= 0.05


def test_a_t_interval_does_not_hold_at_all_looks() -> None:
    """Why it is not used to decide when to stop."""
    draws = np.random.default_rng(4).normal(0, 1, (400, 30))

    def misses(row: np.ndarray) -> bool:
        return any(abs((one := mean_ci(row[:n])).mean) > one.ci_half_width for n in range(4, 31))

    assert np.mean([misses(row) for row in draws]) > 0.15


def test_few_values_have_no_interval() -> None:
    assert confidence_sequence([0.1]).ci_half_width == math.inf
    assert math.isnan(confidence_sequence([]).mean)
    assert half_width(2, 1.0) == math.inf  # two values could not exclude anything at this level
    assert half_width(6, 1.0) < 2.5


def test_the_interval_narrows_like_one_over_the_root_of_n() -> None:
    assert half_width(400, 1.0) < 0.55 * half_width(100, 1.0)
    assert half_width(20, 3.0) == pytest.approx(3 * half_width(20, 1.0))
