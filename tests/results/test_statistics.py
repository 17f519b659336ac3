"""Intervals: what they are by other people's code, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from cl_semisup.results.statistics import crossed_ci, holm, jackknife_ci, mean_ci, wilson_interval


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


def crossed_by_loops(values: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of repetitions and images that are both drawn, with plain loops."""
    r, t = values.shape
    mean = sum(sum(row) for row in values) / (r * t)
    rows = [sum(values[i]) / t for i in range(r)]
    columns = [sum(values[i][j] for i in range(r)) / r for j in range(t)]
    a = t * sum((row - mean) ** 2 for row in rows) / (r - 1)
    b = r * sum((column - mean) ** 2 for column in columns) / (t - 1)
    e = sum((values[i][j] - rows[i] - columns[j] + mean) ** 2 for i in range(r) for j in range(t)) / (r - 1) / (t - 1)
    total = max(a + b - e, a, b)
    freedom = max(1.0, total**2 / (a**2 / (r - 1) + b**2 / (t - 1) + e**2 / (r - 1) / (t - 1)))
    return mean, stats.t.ppf(0.975, freedom) * math.sqrt(total / (r * t))


@pytest.mark.parametrize("shape", [(2, 5), (3, 40), (6, 11)])
def test_the_interval_over_repetitions_and_images_is_that_of_plain_loops(shape: tuple[int, int]) -> None:
    values = (np.random.RandomState(shape[1]).rand(*shape) < 0.7).astype(float)
    found, (mean, half_width) = crossed_ci(values), crossed_by_loops(values)
    assert (found.mean, found.ci_half_width) == (pytest.approx(mean), pytest.approx(half_width))
    assert found.n == shape[0]


def test_without_images_that_differ_it_is_students_interval_over_repetitions_or_wider() -> None:
    """All images of a repetition are equal: only repetitions vary, and images add nothing."""
    values = np.repeat(np.array([[0.2], [0.5], [0.9], [0.4]]), 50, axis=1)
    assert crossed_ci(values).ci_half_width == pytest.approx(mean_ci(values[:, 0]).ci_half_width, rel=1e-6)
    assert crossed_ci(np.ones((3, 5))).ci_half_width == 0
    assert math.isnan(crossed_ci(values[:1]).ci_half_width)


def test_it_holds_the_truth_over_all_images_where_the_interval_over_repetitions_does_not() -> None:
    """3 repetitions on 200 images of which a third is hard, 600 draws: the images' own noise is missing in the other."""
    random = np.random.RandomState(0)
    held = np.zeros(2)
    for _ in range(600):
        chance = np.where(random.rand(200) < 1 / 3, 0.3, 0.95) + random.normal(0, 0.01, (3, 1))
        right = (random.rand(3, 200) < chance).astype(float)
        both, alone = crossed_ci(right), mean_ci(right.mean(axis=1))
        truth = 0.3 / 3 + 0.95 * 2 / 3
        held += [abs(both.mean - truth) <= both.ci_half_width, abs(alone.mean - truth) <= alone.ci_half_width]
    assert 0.92 <= held[0] / 600 <= 0.99
    assert held[1] / 600 < 0.9


@pytest.mark.parametrize("seed", range(20))
def test_holm_rejects_what_the_step_down_procedure_rejects(seed: int) -> None:
    p = np.random.RandomState(seed).uniform(0, 0.06, size=6)
    adjusted = holm(list(p))
    rejected: set[int] = set()
    for step, index in enumerate(np.argsort(p)):  # the procedure as Holm wrote it
        if p[index] > 0.05 / (len(p) - step):
            break
        rejected.add(int(index))
    assert {i for i, value in enumerate(adjusted) if value <= 0.05} == rejected


@pytest.mark.oracle
@pytest.mark.parametrize("seed", range(10))
def test_corrections_and_shares_are_those_of_statsmodels(seed: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="needs statsmodels")
    proportion = pytest.importorskip("statsmodels.stats.proportion", reason="needs statsmodels")
    random = np.random.RandomState(seed)
    p = random.uniform(0, 0.2, size=random.randint(1, 9))
    assert holm(list(p)) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    n = random.randint(1, 40)
    hits = random.randint(0, n + 1)
    found = wilson_interval(hits, n)
    assert (found.low, found.high) == pytest.approx(proportion.proportion_confint(hits, n, method="wilson"), abs=1e-12)


def test_holm_is_never_smaller_than_p_keeps_the_order_and_knows_of_further_tests() -> None:
    assert holm([0.01, 0.04, 0.02]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([0.01], tests=10) == pytest.approx([0.1])
