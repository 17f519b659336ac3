"""Which losses the data can tell apart: paired tests with Holm's correction, shared ranks, a rank over many tasks.

A unit is one repetition on one data set: its tasks (label budgets, ...) share labels, first weights and views, so they
are not independent of each other. Below 6 units no two losses are told apart, whatever their means: the smallest
two-sided p of an exact sign-flip test of 5 pairs is 2 / 2**5 = .0625.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from cl_semisup.results.leaderboard import CONFIDENCE, Board, Line
from cl_semisup.results.verdict import LEAST_PAIRS

LEAST_UNITS = LEAST_PAIRS
LEAST_DATASETS = 10  # Friedman's chi-square approximation is poor below; Demšar, JMLR 7 (2006), section 3.2.2
DRAWS = 2000  # of the bootstrap


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of the paired t-test; 1 where all differences are 0, 0 where they are one other number."""
    x = np.asarray(differences, dtype=float)
    if len(x) < 2:
        return math.nan
    spread = x.std(ddof=1)
    if spread <= 1e-12 * max(1.0, abs(x.mean())):
        return 1.0 if abs(x.mean()) <= 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(x.mean()) / (spread / math.sqrt(len(x))), len(x) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: reject where one is below 1 - confidence."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def told_apart(values: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """(better, worse) -> Holm-adjusted p, of every pair of losses that differ significantly; values by repetition."""
    pairs = list(combinations(values, 2))
    adjusted = holm([p_value(values[a] - values[b]) for a, b in pairs])
    found = {}
    for (a, b), p in zip(pairs, adjusted, strict=True):
        if p < 1 - CONFIDENCE:
            found[(a, b) if values[a].mean() > values[b].mean() else (b, a)] = p
    return found


def shared_ranks(board: Board) -> dict[str, int]:
    """Loss -> 1 + how many losses of the board are significantly better; {} where too few pairs tell anything apart.

    Losses that nothing tells apart share a rank. A loss without all its runs has none.
    """
    lines = [line for line in board.trained if line.complete]
    if len(lines) < 2 or board.repetitions < LEAST_UNITS:
        return {}
    worse = [pair[1] for pair in told_apart({line.loss: line.values for line in lines})]
    return {line.loss: 1 + worse.count(line.loss) for line in lines}


def against_baseline(board: Board) -> dict[str, str]:
    """Loss -> `better`, `worse` or `not told apart` from the baseline (paired t-test, Holm over the board's losses)."""
    base = next((line for line in board.trained if line.loss == board.baseline and line.complete), None)
    others = [line for line in board.trained if line.complete and line is not base]
    if base is None or not others or board.repetitions < LEAST_UNITS:
        return {}
    adjusted = holm([p_value(line.values - base.values) for line in others])
    return {line.loss: _side(line, p) for line, p in zip(others, adjusted, strict=True)}


def _side(line: Line, p: float) -> str:
    if p >= 1 - CONFIDENCE:
        return "not told apart"
    return "better" if line.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class Bounded:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """A loss over all tasks.

    `mean_rank` is the mean over tasks of its rank there (1 is best, ties share the average), which orders losses as
    Borda's count does; its interval is a bootstrap's (see `overall`). `rank` is 1 + how many losses have an interval
    wholly above, None where units are too few. `iqm` is the mean of the middle half of its scores over tasks and
    repetitions. `win_rate` is the share of (task, repetition) in which it beats the baseline, ties counting half.
    """

    loss: str
    mean_rank: Bounded
    rank: int | None
    mean: float
    iqm: Bounded
    win_rate: Bounded | None


@dataclass(frozen=True)
class Overall:
    """The table over all tasks: losses with every run of every task, the rest listed as unranked."""

    standings: tuple[Standing, ...]
    unranked: tuple[str, ...]
    tasks: int
    datasets: int
    units: int
    friedman: "Friedman | None"


def overall(boards: Sequence[Board]) -> Overall | None:
    """Borda ranks with 95 % intervals from a bootstrap that draws data sets, then repetitions, jointly for all losses.

    All tasks of a data set are drawn together. With one data set only repetitions are drawn, and the interval speaks
    of that data set alone. None where there are not two tasks or not two complete losses.
    """
    losses = sorted({line.loss for board in boards for line in board.trained})
    complete = [loss for loss in losses if all(_has(board, loss) for board in boards)]
    if len(boards) < 2 or len(complete) < 2:
        return None
    blocks = _blocks(boards, complete)
    units = sum(block.shape[2] for block in blocks)
    base = next((i for i, loss in enumerate(complete) if any(loss == board.baseline for board in boards)), None)
    drawn = [(_ranks(draw), _iqm(draw), _wins(draw, base)) for draw in _draws(blocks)]
    ranks, iqms, wins = (
        _interval(value, [draw[i] for draw in drawn])
        for i, value in enumerate((_ranks(blocks), _iqm(blocks), _wins(blocks, base)))
    )
    means = np.concatenate([block.mean(axis=2) for block in blocks], axis=0).mean(axis=0)
    standings = [
        Standing(
            loss=loss,
            mean_rank=ranks[i],
            rank=1 + sum(other.high < ranks[i].low for other in ranks) if units >= LEAST_UNITS else None,
            mean=float(means[i]),
            iqm=iqms[i],
            win_rate=wins[i] if base is not None and i != base else None,
        )
        for i, loss in enumerate(complete)
    ]
    standings.sort(key=lambda s: (s.mean_rank.value, -s.mean, s.loss))
    unranked = tuple(loss for loss in losses if loss not in complete)
    found = friedman(np.array([_ranks([block]) for block in blocks]), complete)
    return Overall(tuple(standings), unranked, len(boards), len(blocks), units, found)


def _has(board: Board, loss: str) -> bool:
    return any(line.loss == loss and line.complete for line in board.trained)


def _blocks(boards: Sequence[Board], losses: Sequence[str]) -> list[np.ndarray]:
    """One (tasks, losses, repetitions) array a data set."""
    of_dataset: dict[str, list[np.ndarray]] = {}
    for board in boards:
        values = {line.loss: line.values for line in board.trained}
        of_dataset.setdefault(board.dataset, []).append(np.stack([values[loss] for loss in losses]))
    return [np.stack(arrays) for _, arrays in sorted(of_dataset.items())]


def _draws(blocks: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Bootstrap samples of the blocks; a legacy generator, since its stream is the same in every numpy."""
    random = np.random.RandomState(0)
    for _ in range(DRAWS):
        chosen = random.randint(len(blocks), size=len(blocks)) if len(blocks) > 1 else [0]
        sample = [blocks[i] for i in chosen]
        yield [block[:, :, random.randint(block.shape[2], size=block.shape[2])] for block in sample]


def _ranks(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(losses,) mean over tasks of the average-tie rank by mean score, 1 for the best."""
    means = np.concatenate([block.mean(axis=2) for block in blocks], axis=0)  # (tasks, losses)
    above = (means[:, None, :] > means[:, :, None]).sum(axis=2)
    equal = (means[:, None, :] == means[:, :, None]).sum(axis=2)
    return np.asarray((above + (equal + 1) / 2).mean(axis=0))


def _iqm(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(losses,) interquartile mean of all (task, repetition) scores: a quarter is cut off at either end."""
    return interquartile(
        np.concatenate([block.transpose(0, 2, 1).reshape(-1, block.shape[1]) for block in blocks], axis=0)
    )


def interquartile(values: np.ndarray) -> np.ndarray:
    """Mean along the first axis without the lowest and the highest quarter, rounded down; NaN where one lacks."""
    cut = len(values) // 4
    middle = np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)
    return np.asarray(np.where(np.isnan(values).any(axis=0), np.nan, middle))


def _wins(blocks: Sequence[np.ndarray], base: int | None) -> np.ndarray:
    """(losses,) share of (task, repetition) above the baseline, ties counting half; NaN without one."""
    if base is None:
        return np.full(blocks[0].shape[1], math.nan)
    above = [np.sign(block - block[:, base : base + 1]) for block in blocks]
    return np.concatenate([sign.transpose(0, 2, 1).reshape(-1, sign.shape[1]) for sign in above]).mean(axis=0) / 2 + 0.5


def _interval(observed: np.ndarray, drawn: Sequence[np.ndarray]) -> list[Bounded]:
    """Percentile interval of every loss."""
    low, high = np.quantile(np.stack(list(drawn)), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return [Bounded(float(v), float(a), float(b)) for v, a, b in zip(observed, low, high, strict=True)]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over data sets and Nemenyi's critical difference of mean ranks; Demšar, JMLR 7 (2006)."""

    p: float
    critical_difference: float
    mean_ranks: dict[str, float]
    datasets: int


def friedman(ranks: np.ndarray, losses: Sequence[str]) -> Friedman | None:
    """`ranks` (data sets, losses); None below 10 data sets or 3 losses.

    CD = q sqrt(k (k + 1) / (6 N)),   q the 95 % point of the studentized range of k normals over sqrt(2)
    """
    n, k = ranks.shape
    if n < LEAST_DATASETS or k < 3:
        return None
    again = stats.rankdata(ranks, axis=1)  # mean ranks over a data set's tasks need not be whole
    chi = 12 * n / (k * (k + 1)) * float(((again.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    ties = sum(float((c**3 - c).sum()) for c in (np.unique(row, return_counts=True)[1] for row in again))
    share = 1 - ties / (n * k * (k * k - 1))
    p = float(stats.chi2.sf(chi / share, k - 1)) if share > 0 else 1.0
    q = float(stats.studentized_range.ppf(CONFIDENCE, k, np.inf)) / math.sqrt(2)
    means = dict(zip(losses, again.mean(axis=0).tolist(), strict=True))
    return Friedman(p, q * math.sqrt(k * (k + 1) / (6 * n)), means, n)
