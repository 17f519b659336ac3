"""How a loss does away from its tuned config: stability metrics over the grid of learning rate x batch size.

Every metric is computed in each repetition and reported as the mean over repetitions with a t-interval. A run's score
s counts as it is if the run ended ok, and as chance c if it collapsed or diverged: a collapsed network that scores well
by luck is not stable. With b the best score of the loss on the grid in that repetition, the retention of a cell is

    r = clip((s - c) / (b - c), 0, 1),   and 0 where b is not above the untrained floor: nothing was learnt.

A cell is stable if r >= 0.95. The coefficient of variation is not used: it calls a loss that collapses everywhere
perfectly stable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cl_semisup.report.ranking import Interval
from cl_semisup.results.leaderboard import Board, Cell, Row
from cl_semisup.results.statistics import CONFIDENCE, MeanCI, mean_ci, paired_difference

MIN_STABLE_RETENTION = 0.95


@dataclass(frozen=True)
class Stability:
    """The metrics of one loss on one task; scores are fractions in [0, 1], means are over repetitions.

    Args:
        lr_auc: mean over batch sizes of the area under r over log10(learning rate), divided by the range: 1 if every
            learning rate keeps the best score, 0 if nothing was learnt. NaN with a single learning rate
        lr_auc_common: the same with b the best score of any loss of the task: low but flat does not win
        largest_learning_rate: log10 of the largest learning rate whose cells are stable at every batch size, over the
            repetitions that have one; its `n` counts them
        beyond_grid: is it the largest of the grid in every repetition, so that the true one may be larger?
        stable_decades: longest run of neighbouring learning rates that are all stable at every batch size, in decades
        min_retention: smallest r of the grid
        score_range: best minus worst score of the grid
        untuned_score: mean score of the grid, the expected score of a config chosen blindly
        tuning_gain: tuned minus untuned score
        broken_share: share of runs that collapsed or diverged, with Wilson's interval over runs
    """

    loss: str
    lr_auc: MeanCI
    lr_auc_common: MeanCI
    largest_learning_rate: MeanCI
    beyond_grid: bool
    stable_decades: MeanCI
    min_retention: MeanCI
    score_range: MeanCI
    untuned_score: MeanCI
    tuning_gain: MeanCI
    broken_share: Interval


def stability(board: Board) -> list[Stability]:
    """The metrics of every loss with all its runs, in the board's order; [] if the suite has no grid."""
    rows = [row for row in board.trained_rows if row.complete and len(row.cells) > 1]
    grids = [(row, grid) for row in rows if not np.isnan(grid := _grid(row, board.score)).any()]
    best_of_all = np.max([grid.max(axis=0) for _, grid in grids], axis=0) if grids else np.array([])
    return [_of_loss(row, grid, board, best_of_all) for row, grid in grids]


def _of_loss(row: Row, grid: np.ndarray, board: Board, best_of_all: np.ndarray) -> Stability:
    """`grid` (cells, R) scores, `best_of_all` (R,) the best score of any loss."""
    chance = max(cell.metric_mean("chance") for cell in row.cells)
    best, untuned = grid.max(axis=0), grid.mean(axis=0)
    retention = compute_retention(grid, best, chance, board.floor_scores)
    retention_common = compute_retention(grid, best_of_all, chance, board.floor_scores)
    rates = np.array([cell.learning_rate for cell in row.cells])
    groups = _by_batch_size(row.cells)
    stable = [stable_rates(r, rates, groups) for r in retention.T]
    grid_rates = sorted(set(rates.tolist()))
    statuses = [status for cell in row.cells for status in cell.runs["status"]]
    return Stability(
        loss=row.loss,
        lr_auc=mean_ci(lr_auc(r, rates, groups) for r in retention.T),
        lr_auc_common=mean_ci(lr_auc(r, rates, groups) for r in retention_common.T),
        largest_learning_rate=mean_ci(math.log10(max(one)) for one in stable if one),
        beyond_grid=all(grid_rates[-1] in one for one in stable),
        stable_decades=mean_ci(stable_decades(one, grid_rates) for one in stable),
        min_retention=mean_ci(retention.min(axis=0)),
        score_range=mean_ci(best - grid.min(axis=0)),
        untuned_score=mean_ci(untuned),
        tuning_gain=paired_difference(_scores(row.tuned_cell, board.score), untuned),
        broken_share=wilson_interval(sum(status in ("collapsed", "diverged") for status in statuses), len(statuses)),
    )


def compute_retention(grid: np.ndarray, best: np.ndarray, chance: float, floor: np.ndarray | None) -> np.ndarray:
    """(cells, R) share of the best above-chance score that a cell keeps; 0 where the best is not above the floor."""
    base = np.maximum(chance, floor) if floor is not None else np.full(len(best), chance)
    above_floor = best > base
    share = np.clip((grid - chance) / np.where(above_floor, best - chance, 1.0), 0.0, 1.0)
    return np.where(above_floor, share, 0.0)


def lr_auc(retention: np.ndarray, rates: np.ndarray, groups: Sequence[np.ndarray]) -> float:
    """Mean over batch sizes of the trapezoid area of retention over log10(learning rate), divided by the range."""
    areas = []
    for group in groups:
        logs = np.log10(rates[group])
        if len(set(logs)) < 2:
            return math.nan
        order = np.argsort(logs, kind="stable")
        x, y = logs[order], retention[group][order]
        areas.append(float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0])))
    return float(np.mean(areas))


def stable_rates(retention: np.ndarray, rates: np.ndarray, groups: Sequence[np.ndarray]) -> list[float]:
    """Learning rates whose cells are stable at every batch size, ascending."""
    stable = []
    for group in groups:
        unstable = rates[group][retention[group] < MIN_STABLE_RETENTION]
        stable.append(set(rates[group].tolist()) - set(unstable.tolist()))
    return sorted(set.intersection(*stable)) if stable else []


def stable_decades(stable: Sequence[float], grid_rates: Sequence[float]) -> float:
    """Decades of the longest run of stable rates that are neighbours on the grid; 0 for one rate or none."""
    longest, start = 0.0, None
    for rate in grid_rates:
        if rate not in stable:
            start = None
            continue
        start = rate if start is None else start
        longest = max(longest, math.log10(rate / start))
    return longest


def wilson_interval(hits: int, n: int) -> Interval:
    """A share with Wilson's score interval, which is not empty for no hit or only hits."""
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else middle - half_width  # exactly 0, which rounding would miss
    return Interval(p, low, 1.0 if hits == n else middle + half_width)


def budget_slopes(boards: Sequence[Board]) -> dict[str, dict[str, MeanCI]]:
    """Data set -> loss -> gain of the tuned score for ten times the labels, from the smallest to the largest budget.

    The two scores are paired by repetition. A data set is included only if its boards differ in the label budget
    alone; losses without all runs are left out.
    """
    by_dataset: dict[str, list[Board]] = {}
    for board in boards:
        by_dataset.setdefault(board.dataset, []).append(board)
    slopes = {}
    for dataset, group in by_dataset.items():
        if len(group) < 2 or len({board.budget for board in group}) < len(group):
            continue
        low, high = min(group, key=lambda board: board.budget), max(group, key=lambda board: board.budget)
        tenfolds = math.log10(high.budget / low.budget)
        few, many = (
            {row.loss: row.repetition_scores for row in board.trained_rows if row.complete} for board in (low, high)
        )
        slopes[dataset] = {loss: mean_ci((many[loss] - few[loss]) / tenfolds) for loss in sorted(few) if loss in many}
    return slopes


def _grid(row: Row, score: str) -> np.ndarray:
    """(cells, R)"""
    return np.stack([_scores(cell, score) for cell in row.cells])


def _scores(cell: Cell, score: str) -> np.ndarray:
    """(R,) scores by repetition; a collapsed run counts as chance, too."""
    chance = cell.runs["chance"].astype(float)
    return np.where(cell.runs["status"] == "collapsed", chance, cell.repetition_scores(score))


def _by_batch_size(cells: Sequence[Cell]) -> list[np.ndarray]:
    """Indices of the cells of each (batch size, rest of the config)."""
    groups: dict[tuple[float, str], list[int]] = {}
    for i, cell in enumerate(cells):
        rest = cell.config.partition(", batch")[2]
        groups.setdefault((cell.batch_size, rest), []).append(i)
    return [np.array(group) for group in groups.values()]
