"""Means over repetitions with Student's t-intervals, and paired differences."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanCI:
    """A mean over repetitions with the half-width of its 95 % t-interval (NaN for a single one)."""

    mean: float = math.nan
    ci_half_width: float = math.nan
    n: int = 0


def mean_ci(values: Iterable[float]) -> MeanCI:
    """Student's t-interval; bootstrap intervals of 3 to 5 values cover far less than they promise."""
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
    return MeanCI(mean, float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom) * math.sqrt(errors.sum())), n)


@cache
def _t_quantile(n: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
