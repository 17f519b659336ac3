"""An interval for a mean that holds at every look at once, so that one may stop when it is narrow enough.

With t the t-statistic of n normal values against a mean m, and a N(0, 1 / c^2) prior on the standardised mean, the
Bayes factor of right-Haar priors is

    B_n(m) = r^(-1/2) * ((1 + t^2 / v) / (1 + t^2 / (r v)))^(n/2),     v = n - 1,   r = 1 + n / c^2.

It is a martingale under the true mean, whatever the variance, so P(B_n >= 1 / alpha for any n) <= alpha (Ville). The
values of m with B_n < 1 / alpha are an interval around the sample mean. Source: Gonen et al., The American Statistician
59 (2005), eq. 3 (the factor); Lai, Annals of Statistics 4 (1976) and Wang & Ramdas, arXiv 2310.03722 (all n at once).
The statement is exact for normal values; a test measures the coverage for others.
"""

import math
from collections.abc import Sequence

import numpy as np

from cl_semisup.results.statistics import CONFIDENCE, MeanCI

PRIOR = 0.2  # c^2: intervals are finite from four values on, and at most 8 % wider at 10 to 30 than at any other c


def confidence_sequence(values: Sequence[float], level: float = CONFIDENCE) -> MeanCI:
    """The mean and the half-width of its interval after these values; infinite while there are too few."""
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n < 2:
        return MeanCI(float(x.mean()) if n else math.nan, math.inf, n)
    return MeanCI(float(x.mean()), half_width(n, float(x.std(ddof=1)), level), n)


def half_width(n: int, deviation: float, level: float = CONFIDENCE) -> float:
    """Half of the interval after n values with this sample standard deviation."""
    r = 1 + n / PRIOR
    k = (math.sqrt(r) / (1 - level)) ** (2 / n)
    if k >= r:
        return math.inf
    squared = (n - 1) * (k - 1) / (1 - k / r)  # the largest t^2 with a Bayes factor below 1 / alpha
    return math.sqrt(squared / n) * deviation
