"""What paired repetitions can resolve, from the spread of finished runs: before anything is spent.

The power is that of the two-sided paired t-test at 5 %: with n pairs whose differences scatter with deviation s, a true
difference of d is found with the chance that |T| > t(0.975, n - 1), T noncentral t with n - 1 degrees of freedom and
noncentrality d sqrt(n) / s.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special  # `scipy.stats` takes a second to import

from cl_semisup.results.statistics import CONFIDENCE
from cl_semisup.search.confidence import half_width
from cl_semisup.suite.run import Run
from cl_semisup.suite.search import task

POWER = 0.8
MIN_PAIRS = 3  # of a comparison whose spread is used
MAX_REPETITIONS = 10_000


@dataclass(frozen=True)
class Spread:
    """The standard deviation of paired differences, pooled over comparisons, and how many comparisons that are."""

    deviation: float
    comparisons: int


def spread(scores: Iterable[tuple[Run, float]], baseline: str = "") -> Spread | None:
    """The spread of differences between losses in the same task, config and repetition; None without any.

    With a baseline, of differences to it where there are any; each loss is compared in the config in which it is best.
    """
    cells: dict[str, dict[str, dict[str, dict[int, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    names = {}
    for run, score in scores:
        if run.epochs and not math.isnan(score):
            loss = repr(run.loss)
            names[loss] = run.loss_name
            config = repr((run.learning_rate, run.batch_size, run.optimizer, run.schedule))
            cells[task(run)][loss][config][run.repetition] = score
    found = {True: list[np.ndarray](), False: list[np.ndarray]()}  # to the baseline, or between other losses
    for losses in cells.values():
        best = {
            loss: max(configs.values(), key=lambda one: float(np.mean(list(one.values()))))
            for loss, configs in losses.items()
        }
        for a, b in combinations(sorted(best), 2):
            pairs = sorted(best[a].keys() & best[b].keys())
            if len(pairs) >= MIN_PAIRS:
                differences = np.array([best[a][n] - best[b][n] for n in pairs])
                found[baseline in (names[a], names[b])].append(differences)
    chosen = found[True] or found[False]
    if not chosen:
        return None
    freedom = sum(len(one) - 1 for one in chosen)
    variance = sum(float(one.var(ddof=1)) * (len(one) - 1) for one in chosen) / freedom
    return Spread(math.sqrt(variance), len(chosen))


def power(difference: float, deviation: float, pairs: int) -> float:
    """The chance to find a true difference."""
    if pairs < 2:
        return 0.0
    if deviation == 0:
        return 1.0 if difference else 0.0
    limit = float(special.stdtrit(pairs - 1, 0.5 + CONFIDENCE / 2))
    shift = difference * math.sqrt(pairs) / deviation
    found = 1.0 - float(special.nctdtr(pairs - 1, shift, limit))
    if math.isnan(found):  # so far from 0 that SciPy gives up
        return 1.0
    wrong_sign = float(special.nctdtr(pairs - 1, shift, -limit))
    return found + (0.0 if math.isnan(wrong_sign) else wrong_sign)


def resolvable(deviation: float, pairs: int) -> float:
    """The smallest true difference that is found with POWER; infinite for a single pair."""
    if pairs < 2:
        return math.inf
    low, high = 0.0, 200 * deviation
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, deviation, pairs) >= POWER else (middle, high)
    return high


def repetitions_for(difference: float, deviation: float) -> int:
    """The fewest pairs that find a true difference with POWER; at most MAX_REPETITIONS."""
    return _first(2, lambda n: power(difference, deviation, n) >= POWER)


def pairs_for_width(points: float, deviation: float) -> int:
    """The fewest pairs whose interval that holds at every look has this half-width; at most MAX_REPETITIONS."""
    return _first(2, lambda n: half_width(n, deviation) <= points)


def _first(low: int, enough: Callable[[int], bool]) -> int:
    high = low
    while not enough(high):
        if high >= MAX_REPETITIONS:
            return MAX_REPETITIONS
        low, high = high, min(2 * high, MAX_REPETITIONS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if not enough(low) else low
