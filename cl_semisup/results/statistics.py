"""Means over repetitions with Student's t-intervals, paired differences, intervals of shares, Holm's correction."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special  # `scipy.stats` takes a second to import, and these are its quantiles

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanCI:
    """A mean over repetitions with the half-width of its 95 % t-interval (NaN for a single one)."""

    mean: float = math.nan
    ci_half_width: float = math.nan
    n: int = 0


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def mean_ci(values: Iterable[float]) -> MeanCI:
    """Student's t-interval; percentile bootstraps of 3 to 6 values cover far less than they promise (6: 86 %)."""
    x = np.asarray(list(values), dtype=float)
    n = len(x)
    if n == 0:
        return MeanCI()
    ci_half_width = _t_quantile(n) * x.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return MeanCI(float(x.mean()), float(ci_half_width), n)


def mean_ci_if_complete(values: np.ndarray) -> MeanCI:
    """Over all repetitions; the mean is NaN if any value is NaN, and `n` counts the others."""
    present = values[~np.isnan(values)]
    return mean_ci(present) if len(present) == len(values) else MeanCI(n=len(present))


def paired_difference(values: np.ndarray, reference: np.ndarray) -> MeanCI:
    """Of two losses, repetition by repetition; no mean if one of a pair is missing."""
    if len(values) != len(reference):
        return MeanCI()
    return mean_ci_if_complete(values - reference)


def difference(values: np.ndarray, others: np.ndarray) -> MeanCI:
    """Of the means of two unpaired samples, with Welch's interval; `n` is the size of the smaller."""
    n = min(len(values), len(others))
    if not n or np.isnan(values).any() or np.isnan(others).any():
        return MeanCI()
    mean = float(values.mean() - others.mean())
    if n < 2:
        return MeanCI(mean, math.nan, n)
    errors = np.array([x.var(ddof=1) / len(x) for x in (values, others)])  # squared
    if not errors.any():
        return MeanCI(mean, 0.0, n)
    freedom = errors.sum() ** 2 / (errors**2 / (np.array([len(values), len(others)]) - 1)).sum()
    return MeanCI(mean, float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2) * math.sqrt(errors.sum())), n)


def crossed_ci(values: np.ndarray) -> MeanCI:
    """The mean of (R, T) values of R repetitions on the same T test images, with its interval for both drawn anew.

        x_rt = m + repetition_r + image_t + rest_rt,    var(mean) = (A + B - E) / (R T)

    A, B and E are the mean squares of repetitions, images and the rest; the interval is Student's t with
    Satterthwaite's degrees of freedom. Where A + B - E is below A or B, by chance, the larger of these stands for it.
    NaN without two repetitions and two images. In simulations it covers 91 to 98 %, where a bootstrap that draws
    repetitions and images covers 80 to 99 %, and the interval over repetitions alone 75 to 96 %
    (`benchmarks/intervals.py`).

    Source: Satterthwaite, Biometrics Bulletin 2 (1946)
    """
    r, t = values.shape
    mean = float(values.mean())
    if r < 2 or t < 2:
        return MeanCI(mean, n=r)
    by_repetition, by_image = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_repetition[:, None] - by_image + mean
    squares = np.array([t * by_repetition.var(ddof=1), r * by_image.var(ddof=1), (rest**2).sum() / ((r - 1) * (t - 1))])
    total = max(squares[0] + squares[1] - squares[2], squares[0], squares[1])
    if total == 0:
        return MeanCI(mean, 0.0, r)
    freedom = total**2 / (squares**2 / np.array([r - 1, t - 1, (r - 1) * (t - 1)])).sum()
    half_width = special.stdtrit(max(freedom, 1), 0.5 + CONFIDENCE / 2) * math.sqrt(total / (r * t))
    return MeanCI(mean, float(half_width), r)


def jackknife_ci(statistic: Callable[[np.ndarray], float | np.ndarray], units: np.ndarray) -> MeanCI:
    """A statistic of all units, with a t-interval whose standard error is the jackknife's.

    `units` (n, ...) are drawn independently; `statistic` takes (m, ...) and gives a number. NaN without two units.
    In simulations with 6 to 10 units it covers 91 to 96 % for interquartile means (`tests/results/test_statistics.py`).

    Source: Efron and Stein, Annals of Statistics 9 (1981)
    """
    n, value = len(units), float(statistic(units))
    if n < 2:
        return MeanCI(value, n=n)
    without = np.array([float(statistic(np.delete(units, i, axis=0))) for i in range(n)])
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return MeanCI(value, _t_quantile(n) * error, n)


def wilson_interval(hits: float, n: int) -> Interval:
    """A share with Wilson's score interval, which is not empty for no hit or only hits. A tie may be half a hit."""
    z = float(special.ndtri(0.5 + CONFIDENCE / 2))
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else middle - half_width  # exactly 0, which rounding would miss
    return Interval(p, low, 1.0 if hits == n else middle + half_width)


def holm(p_values: Sequence[float], tests: int = 0) -> list[float]:
    """Holm's step-down adjusted p-values, in the order of `p_values`: reject those below a, and the family has rate a.

    `tests` is the size of the family if that is larger than the number of p-values.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979)
    """
    adjusted, highest, count = [0.0] * len(p_values), 0.0, max(tests, len(p_values))
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (count - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@cache
def _t_quantile(n: int) -> float:
    return float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
