"""Which losses differ significantly: paired tests with Holm's correction, shared ranks, a rank over many tasks.

A unit is one repetition on one data set: its tasks (label budgets, ...) share labels, initial weights and views, so
they are not independent. With fewer than 6 units no two losses are told apart, whatever their means: the smallest
two-sided p of an exact sign-flip test of 5 pairs is 2 / 2**5 = .0625.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from cl_semisup.results.leaderboard import Board, Row
from cl_semisup.results.statistics import CONFIDENCE
from cl_semisup.results.verdict import MIN_PAIRS

MIN_DATASETS = 10  # Friedman's chi-square approximation is poor with fewer; Demšar, JMLR 7 (2006), section 3.2.2
BOOTSTRAP_DRAWS = 2000


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of a paired t-test. With zero variance: 1 if the mean is 0, else 0. NaN for fewer than 2 pairs."""
    x = np.asarray(differences, dtype=float)
    if len(x) < 2:
        return math.nan
    std = x.std(ddof=1)
    if std <= 1e-12 * max(1.0, abs(x.mean())):
        return 1.0 if abs(x.mean()) <= 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(x.mean()) / (std / math.sqrt(len(x))), len(x) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order of `p_values`: reject if below 1 - CONFIDENCE."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def shared_ranks(board: Board) -> dict[str, int]:
    """Loss -> 1 + how many losses of the board are significantly better; {} with too few pairs.

    Losses without a significant difference share a rank. A loss without all its runs has none. Where a search gave some
    losses more repetitions than others, nobody has one.
    """
    rows = [row for row in board.trained_rows if row.complete]
    if len(rows) < 2 or board.repetitions < MIN_PAIRS or not _equally_often(rows):
        return {}
    pairs = list(combinations(rows, 2))
    adjusted = holm([p_value(a.repetition_scores - b.repetition_scores) for a, b in pairs])
    significant_pairs = [pair for pair, p in zip(pairs, adjusted, strict=True) if p < 1 - CONFIDENCE]
    worse = [min(pair, key=lambda row: row.repetition_scores.mean()).loss for pair in significant_pairs]
    return {row.loss: 1 + worse.count(row.loss) for row in rows}


def against_baseline(board: Board) -> dict[str, str]:
    """Loss -> `better`, `worse` or `not told apart` from the baseline (paired t-test, Holm over the board's losses)."""
    rows = [row for row in board.trained_rows if row.complete]
    base = next((row for row in rows if row.loss == board.baseline), None)
    others = [row for row in rows if row is not base]
    if base is None or not others or board.repetitions < MIN_PAIRS or not _equally_often(rows):
        return {}
    adjusted = holm([p_value(row.repetition_scores - base.repetition_scores) for row in others])
    return {row.loss: _comparison(row, p) for row, p in zip(others, adjusted, strict=True)}


def _equally_often(rows: Sequence[Row]) -> bool:
    return len({len(row.repetition_scores) for row in rows}) < 2


def _comparison(row: Row, p: float) -> str:
    if p >= 1 - CONFIDENCE:
        return "not told apart"
    return "better" if row.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """A loss over all tasks.

    `mean_rank` is the mean over tasks of its rank (1 is best, ties share the average), which orders losses as
    Borda's count does; its interval is a bootstrap's (see `rank_overall`). `rank` is 1 + how many losses have an
    interval wholly above, None with too few units. `iqm` is the mean of the middle half of its scores over tasks and
    repetitions. `win_rate` is the share of (task, repetition) in which it beats the baseline; ties count half.
    """

    loss: str
    mean_rank: Interval
    rank: int | None
    mean: float
    iqm: Interval
    win_rate: Interval | None


@dataclass(frozen=True)
class OverallRanking:
    """All tasks together: standings of the losses with every run of every task; the others are unranked."""

    standings: tuple[Standing, ...]
    unranked: tuple[str, ...]
    tasks: int
    datasets: int
    units: int
    friedman: "Friedman | None"


def rank_overall(boards: Sequence[Board]) -> OverallRanking | None:
    """Borda ranks with 95 % intervals from a bootstrap that draws data sets, then repetitions, jointly for all losses.

    All tasks of a data set are drawn together. With one data set only repetitions are drawn, and the interval holds
    for this data set alone. None for fewer than two tasks or two complete losses.
    """
    losses = sorted({row.loss for board in boards for row in board.trained_rows})
    complete = [loss for loss in losses if all((row := board.row_of(loss)) and row.complete for board in boards)]
    if len(boards) < 2 or len(complete) < 2:
        return None
    blocks = _blocks(boards, complete)
    units = sum(block.shape[2] for block in blocks)
    base = next((i for i, loss in enumerate(complete) if any(loss == board.baseline for board in boards)), None)
    statistics = (_ranks, _iqm, lambda sample: _win_rates(sample, base))
    drawn = [[statistic(sample) for statistic in statistics] for sample in _bootstrap_samples(blocks)]
    ranks, iqms, win_rates = (
        _intervals(statistic(blocks), [values[i] for values in drawn]) for i, statistic in enumerate(statistics)
    )
    means = np.concatenate([block.mean(axis=2) for block in blocks], axis=0).mean(axis=0)
    standings = [
        Standing(
            loss=loss,
            mean_rank=ranks[i],
            rank=1 + sum(other.high < ranks[i].low for other in ranks) if units >= MIN_PAIRS else None,
            mean=float(means[i]),
            iqm=iqms[i],
            win_rate=win_rates[i] if base is not None and i != base else None,
        )
        for i, loss in enumerate(complete)
    ]
    standings.sort(key=lambda s: (s.mean_rank.value, -s.mean, s.loss))
    unranked = tuple(loss for loss in losses if loss not in complete)
    test = friedman(np.array([_ranks([block]) for block in blocks]), complete)
    return OverallRanking(tuple(standings), unranked, len(boards), len(blocks), units, test)


def _blocks(boards: Sequence[Board], losses: Sequence[str]) -> list[np.ndarray]:
    """One (tasks, losses, repetitions) array a data set."""
    by_dataset: dict[str, list[np.ndarray]] = {}
    for board in boards:
        scores = {row.loss: row.repetition_scores for row in board.trained_rows}
        by_dataset.setdefault(board.dataset, []).append(np.stack([scores[loss] for loss in losses]))
    return [np.stack(arrays) for _, arrays in sorted(by_dataset.items())]


def _bootstrap_samples(blocks: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Bootstrap samples of the blocks; a legacy generator, whose stream is the same in every NumPy version."""
    random = np.random.RandomState(0)
    for _ in range(BOOTSTRAP_DRAWS):
        indices = random.randint(len(blocks), size=len(blocks)) if len(blocks) > 1 else [0]
        sample = [blocks[i] for i in indices]
        yield [block[:, :, random.randint(block.shape[2], size=block.shape[2])] for block in sample]


def _ranks(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(losses,) mean over tasks of the average-tie rank by mean score, 1 for the best."""
    means = np.concatenate([block.mean(axis=2) for block in blocks], axis=0)  # (tasks, losses)
    above = (means[:, None, :] > means[:, :, None]).sum(axis=2)
    equal = (means[:, None, :] == means[:, :, None]).sum(axis=2)
    return np.asarray((above + (equal + 1) / 2).mean(axis=0))


def _iqm(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(losses,) interquartile mean of all (task, repetition) scores."""
    return interquartile_mean(_pooled(blocks))


def _pooled(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """((task, repetition) pairs, losses)"""
    return np.concatenate([block.transpose(0, 2, 1).reshape(-1, block.shape[1]) for block in blocks], axis=0)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean along the first axis without the lowest and the highest quarter, rounded down; NaN if a value is NaN."""
    cut = len(values) // 4
    middle = np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)
    return np.asarray(np.where(np.isnan(values).any(axis=0), np.nan, middle))


def _win_rates(blocks: Sequence[np.ndarray], base: int | None) -> np.ndarray:
    """(losses,) share of (task, repetition) above the baseline, ties count half; NaN without a baseline."""
    if base is None:
        return np.full(blocks[0].shape[1], math.nan)
    return _pooled([np.sign(block - block[:, base : base + 1]) for block in blocks]).mean(axis=0) / 2 + 0.5


def _intervals(observed: np.ndarray, drawn: Sequence[np.ndarray]) -> list[Interval]:
    """Percentile interval of every loss."""
    low, high = np.quantile(np.stack(list(drawn)), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return [Interval(float(v), float(a), float(b)) for v, a, b in zip(observed, low, high, strict=True)]


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over data sets and Nemenyi's critical difference of mean ranks; Demšar, JMLR 7 (2006)."""

    p: float
    critical_difference: float
    mean_ranks: dict[str, float]
    datasets: int


def friedman(ranks: np.ndarray, losses: Sequence[str]) -> Friedman | None:
    """`ranks` (data sets, losses); None for fewer than 10 data sets or 3 losses.

    CD = q sqrt(k (k + 1) / (6 N)),   q the 95 % point of the studentized range of k normals over sqrt(2)
    """
    n, k = ranks.shape
    if n < MIN_DATASETS or k < 3:
        return None
    again = stats.rankdata(ranks, axis=1)  # mean ranks over a data set's tasks need not be whole
    chi = 12 * n / (k * (k + 1)) * float(((again.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    ties = sum(float((c**3 - c).sum()) for c in (np.unique(row, return_counts=True)[1] for row in again))
    share = 1 - ties / (n * k * (k * k - 1))
    p = float(stats.chi2.sf(chi / share, k - 1)) if share > 0 else 1.0
    q = float(stats.studentized_range.ppf(CONFIDENCE, k, np.inf)) / math.sqrt(2)
    means = dict(zip(losses, again.mean(axis=0).tolist(), strict=True))
    return Friedman(p, q * math.sqrt(k * (k + 1) / (6 * n)), means, n)
