"""Which losses differ significantly: paired tests with Holm's correction, intervals of ranks, a rank over many tasks.

A unit is one repetition on one data set: its tasks (label budgets, ...) share labels, initial weights and views, so
they are not independent. With fewer than 6 units no two losses are told apart, whatever their means: the smallest
two-sided p of an exact sign-flip test of 5 pairs is 2 / 2**5 = .0625.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special  # `scipy.stats` takes a second to import: only where it is needed

from cl_semisup.results.leaderboard import Board, Row, leads
from cl_semisup.results.statistics import CONFIDENCE, Interval, MeanCI, holm, jackknife_ci, mean_ci, wilson_interval
from cl_semisup.results.verdict import MIN_PAIRS

MIN_DATASETS = 10  # Friedman's chi-square approximation is poor with fewer; Demšar, JMLR 7 (2006), section 3.2.2


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of a paired t-test. With zero variance: 1 if the mean is 0, else 0. NaN for fewer than 2 pairs."""
    x = np.asarray(differences, dtype=float)
    if len(x) < 2:
        return math.nan
    std = x.std(ddof=1)
    if std <= 1e-12 * max(1.0, abs(x.mean())):
        return 1.0 if abs(x.mean()) <= 1e-12 else 0.0
    return float(2 * special.stdtr(len(x) - 1, -abs(x.mean()) / (std / math.sqrt(len(x)))))


def rank_intervals(board: Board) -> dict[str, tuple[int, int]]:
    """Loss -> the ranks that its true mean may have, all intervals together with 95 %; {} with too few pairs.

    From 1 + how many losses are significantly better, to as many as are not significantly worse. So a loss whose scores
    scatter has a wide interval and no good rank. A loss without all its runs has none. Where a search gave some losses
    more repetitions than others, nobody has one.

    Source: Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies 91 (2024), with Holm's correction
    """
    rows = [row for row in board.trained_rows if row.complete]
    if len(rows) < 2 or board.repetitions < MIN_PAIRS or not _equally_often(rows):
        return {}
    return _rank_sets({row.loss: row.repetition_scores for row in rows})


def _rank_sets(values: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Loss -> interval of its rank, from paired t-tests of all pairs; `values` (units,), larger is better."""
    pairs = list(combinations(values, 2))
    adjusted = holm([p_value(values[a] - values[b]) for a, b in pairs])
    better, worse = Counter[str](), Counter[str]()  # how many losses are better, and worse, than this one
    for (a, b), p in zip(pairs, adjusted, strict=True):
        if p < 1 - CONFIDENCE:
            loser, winner = sorted((a, b), key=lambda loss: float(values[loss].mean()))
            better[loser] += 1
            worse[winner] += 1
    return {loss: (1 + better[loss], len(values) - worse[loss]) for loss in values}


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
class Standing:
    """A loss over all tasks.

    `mean_rank` is the mean over tasks and repetitions of its rank among the losses there (1 is best, ties share the
    average), which orders losses as Borda's count does. `ranks` is the interval of its place in that order, None with
    too few units. `weak` if it is above the untrained network on no task: tables then show no rank. `iqm` is the mean
    of the middle half of its scores over tasks and repetitions. `win_rate` is the share of (task, repetition) in which
    it beats the baseline; ties count half.
    """

    loss: str
    mean_rank: MeanCI
    ranks: tuple[int, int] | None
    weak: bool
    mean: float
    iqm: MeanCI
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
    """Mean ranks with t-intervals over units, interquartile means with jackknife intervals, win rates with Wilson's.

    A unit's tasks count as one observation, since they share labels, first weights and views. All intervals speak of
    new repetitions on these data sets, not of other data sets. None for fewer than two tasks or two complete losses.
    """
    losses = sorted({row.loss for board in boards for row in board.trained_rows})
    complete = [loss for loss in losses if all((row := board.row_of(loss)) and row.complete for board in boards)]
    if len(boards) < 2 or len(complete) < 2:
        return None
    blocks = _blocks(boards, complete)
    units = [unit for block in blocks for unit in np.moveaxis(block, 2, 0)]  # (tasks, losses) each
    ranks = _unit_ranks(blocks)
    intervals = _rank_sets(dict(zip(complete, -ranks.T, strict=True))) if len(units) >= MIN_PAIRS else {}
    base = next((i for i, loss in enumerate(complete) if any(loss == board.baseline for board in boards)), None)
    means = np.concatenate([block.mean(axis=2) for block in blocks], axis=0).mean(axis=0)
    standings = [
        Standing(
            loss=loss,
            mean_rank=mean_ci(ranks[:, i]),
            ranks=intervals.get(loss),
            weak=not any((row := board.row_of(loss)) and leads(board, row) for board in boards),
            mean=float(means[i]),
            iqm=_iqm([unit[:, i] for unit in units]),
            win_rate=_win_rate(blocks, i, base, len(units)) if base is not None and i != base else None,
        )
        for i, loss in enumerate(complete)
    ]
    standings.sort(key=lambda s: (s.mean_rank.mean, -s.mean, s.loss))
    unranked = tuple(loss for loss in losses if loss not in complete)
    test = friedman(np.array([_unit_ranks([block]).mean(axis=0) for block in blocks]), complete)
    return OverallRanking(tuple(standings), unranked, len(boards), len(blocks), len(units), test)


def _blocks(boards: Sequence[Board], losses: Sequence[str]) -> list[np.ndarray]:
    """One (tasks, losses, repetitions) array a data set."""
    by_dataset: dict[str, list[np.ndarray]] = {}
    for board in boards:
        scores = {row.loss: row.repetition_scores for row in board.trained_rows}
        by_dataset.setdefault(board.dataset, []).append(np.stack([scores[loss] for loss in losses]))
    return [np.stack(arrays) for _, arrays in sorted(by_dataset.items())]


def _unit_ranks(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(units, losses) mean over the tasks of a unit of the average-tie rank among losses, 1 for the best."""
    from scipy import stats

    return np.concatenate([stats.rankdata(-block, axis=1).mean(axis=0).T for block in blocks])


def _iqm(units: Sequence[np.ndarray]) -> MeanCI:
    """Interquartile mean of one loss over the (tasks,) scores of all units, with the jackknife's interval."""
    array = np.empty(len(units), dtype=object)  # data sets may have different numbers of tasks
    array[:] = units
    return jackknife_ci(lambda some: interquartile_mean(np.concatenate(list(some))), array)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean along the first axis without the lowest and the highest quarter, rounded down; NaN if a value is NaN."""
    cut = len(values) // 4
    middle = np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)
    return np.asarray(np.where(np.isnan(values).any(axis=0), np.nan, middle))


def _win_rate(blocks: Sequence[np.ndarray], loss: int, base: int, units: int) -> Interval:
    """Share of (task, repetition) above the baseline, ties count half; Wilson's interval with a draw a unit."""
    signs = np.concatenate([np.sign(block[:, loss] - block[:, base]).ravel() for block in blocks])
    share = float(signs.mean()) / 2 + 0.5
    return wilson_interval(share * units, units)


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
    from scipy import stats

    again = stats.rankdata(ranks, axis=1)  # mean ranks over a data set's tasks need not be whole
    chi = 12 * n / (k * (k + 1)) * float(((again.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    ties = sum(float((c**3 - c).sum()) for c in (np.unique(row, return_counts=True)[1] for row in again))
    share = 1 - ties / (n * k * (k * k - 1))
    p = float(stats.chi2.sf(chi / share, k - 1)) if share > 0 else 1.0
    q = float(stats.studentized_range.ppf(CONFIDENCE, k, np.inf)) / math.sqrt(2)
    means = dict(zip(losses, again.mean(axis=0).tolist(), strict=True))
    return Friedman(p, q * math.sqrt(k * (k + 1) / (6 * n)), means, n)
