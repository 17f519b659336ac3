"""How a loss does away from its tuned config: stability metrics over the grid of learning rate x batch size.

A run's score counts as it is if the run ended ok, and as chance c if it collapsed or diverged: a collapsed network that
scores well by luck is not stable. With s the mean over repetitions of a cell and b the best such mean of the loss, the
retention of a cell is

    r = clip((s - c) / (b - c), 0, 1),   and 0 where b is not above the untrained floor's mean: nothing was learnt.

Metrics of retention are computed from these means, so that one bad run does not decide a threshold, and have jackknife
intervals over repetitions. A learning rate is stable if r >= 0.95 at every batch size; between two rates of the grid r
is taken as linear in the logarithm. The coefficient of variation is not used: it calls a loss that collapses everywhere
perfectly stable.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cl_semisup.results.leaderboard import Board, Cell, Row
from cl_semisup.results.statistics import Interval, MeanCI, jackknife_ci, mean_ci, paired_difference, wilson_interval

MIN_STABLE_RETENTION = 0.95


@dataclass(frozen=True)
class Stability:
    """The metrics of one loss on one task; scores are fractions in [0, 1], means are over repetitions.

    Args:
        lr_auc: mean over batch sizes of the area under r over log10(learning rate), divided by the range: 1 if every
            learning rate keeps the best score, 0 if nothing was learnt. NaN with a single learning rate
        lr_auc_common: the same with b the best score of any loss of the task: low but flat does not win
        lr_auc_difference: lr_auc minus that of the baseline, of the same repetitions
        largest_learning_rate: log10 of the largest stable learning rate; NaN without one
        beyond_grid: is it the largest of the grid, so that the true one may be larger?
        stable_decades: longest stretch of stable learning rates, in decades
        min_retention: smallest r of the grid
        score_range: best minus worst score of the grid
        untuned_score: mean score of the grid, the expected score of a config chosen blindly
        tuning_gain: tuned minus untuned score
        broken_share: share of runs that collapsed or diverged, with Wilson's interval over runs
    """

    loss: str
    lr_auc: MeanCI
    lr_auc_common: MeanCI
    lr_auc_difference: MeanCI
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
    grids = [Grid.of(row, board) for row in rows]
    complete = [(row, grid) for row, grid in zip(rows, grids, strict=True) if not np.isnan(grid.scores).any()]
    base = next((grid for row, grid in complete if row.loss == board.baseline), None)
    best_of_all = np.concatenate([grid.scores for _, grid in complete]) if complete else np.array([])
    return [_of_loss(row, grid, board, base, best_of_all) for row, grid in complete]


@dataclass(frozen=True, eq=False)
class Grid:
    """A loss's scores (cells, R), with what its retention is measured against; repetitions can be left out."""

    scores: np.ndarray
    chance: float
    floor: np.ndarray | None
    rates: np.ndarray
    groups: Sequence[np.ndarray]

    @classmethod
    def of(cls, row: Row, board: Board) -> "Grid":
        chance = max(cell.metric_mean("chance") for cell in row.cells)
        rates = np.array([cell.learning_rate for cell in row.cells])
        return cls(_grid(row, board.score), chance, board.floor_scores, rates, _by_batch_size(row.cells))

    @cached_property
    def learns(self) -> bool:
        """Whether the best mean over all repetitions is above the floor's: decided once, for the jackknife too."""
        floor = self.chance if self.floor is None else max(self.chance, float(self.floor.mean()))
        return bool(self.scores.mean(axis=1).max() > floor)

    def retention(self, repetitions: np.ndarray, best_of: np.ndarray | None = None) -> np.ndarray:
        """(cells,) of the means over these repetitions; `best_of` (cells, R) are scores whose best mean is b."""
        means = self.scores[:, repetitions].mean(axis=1)
        best = (self.scores if best_of is None else best_of)[:, repetitions].mean(axis=1).max()
        return compute_retention(means, float(best), self.chance) if self.learns else np.zeros(len(means))

    def lr_auc(self, repetitions: np.ndarray, best_of: np.ndarray | None = None) -> float:
        return lr_auc(self.retention(repetitions, best_of), self.rates, self.groups)

    def stable(self, repetitions: np.ndarray) -> list[tuple[float, float]]:
        return stable_stretches(self.retention(repetitions), self.rates, self.groups)


def _of_loss(row: Row, grid: Grid, board: Board, base: Grid | None, best_of_all: np.ndarray) -> Stability:
    """`best_of_all` (cells of all losses, R): the scores whose best mean is the common best."""
    best, untuned = grid.scores.max(axis=0), grid.scores.mean(axis=0)
    repetitions = np.arange(grid.scores.shape[1])
    statuses = [status for cell in row.cells for status in cell.runs["status"]]
    comparable = base is not None and base is not grid and base.scores.shape[1] == len(repetitions)

    def over_repetitions(statistic: Callable[[np.ndarray], float]) -> MeanCI:
        return jackknife_ci(statistic, repetitions)

    return Stability(
        loss=row.loss,
        lr_auc=over_repetitions(grid.lr_auc),
        lr_auc_common=over_repetitions(lambda some: grid.lr_auc(some, best_of_all)),
        lr_auc_difference=(
            over_repetitions(lambda some: grid.lr_auc(some) - base.lr_auc(some)) if base and comparable else MeanCI()
        ),
        largest_learning_rate=over_repetitions(
            lambda some: max((end for _, end in grid.stable(some)), default=math.nan)
        ),
        beyond_grid=any(10**end >= grid.rates.max() * (1 - 1e-9) for _, end in grid.stable(repetitions)),
        stable_decades=over_repetitions(
            lambda some: max((end - start for start, end in grid.stable(some)), default=0.0)
        ),
        min_retention=over_repetitions(lambda some: float(grid.retention(some).min())),
        score_range=mean_ci(best - grid.scores.min(axis=0)),
        untuned_score=mean_ci(untuned),
        tuning_gain=paired_difference(_scores(row.tuned_cell, board.score), untuned),
        broken_share=wilson_interval(sum(status in ("collapsed", "diverged") for status in statuses), len(statuses)),
    )


def compute_retention(means: np.ndarray, best: float, chance: float) -> np.ndarray:
    """(cells,) share of the best above-chance score that a cell's mean keeps; 0 where the best is not above chance."""
    return np.clip((means - chance) / (best - chance), 0.0, 1.0) if best > chance else np.zeros(len(means))


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


def stable_stretches(
    retention: np.ndarray, rates: np.ndarray, groups: Sequence[np.ndarray]
) -> list[tuple[float, float]]:
    """The stretches (log10 of their ends) of learning rates that are stable at every batch size, ascending.

    The curve is the smallest retention of all batch sizes at each rate that all of them have, linear in between.
    """
    common = set.intersection(*({*rates[group].tolist()} for group in groups))
    logs = np.log10(sorted(common))
    curve = [min(retention[group][rates[group] == rate].min() for group in groups) for rate in sorted(common)]
    stretches: list[tuple[float, float]] = []
    for i, (at, value) in enumerate(zip(logs, curve, strict=True)):
        if value < MIN_STABLE_RETENTION:
            continue
        start = at if i == 0 or curve[i - 1] >= MIN_STABLE_RETENTION else _crossing(logs, curve, i - 1)
        end = at if i + 1 == len(logs) or curve[i + 1] >= MIN_STABLE_RETENTION else _crossing(logs, curve, i)
        if stretches and i and curve[i - 1] >= MIN_STABLE_RETENTION:
            start = stretches.pop()[0]
        stretches.append((float(start), float(end)))
    return stretches


def _crossing(logs: np.ndarray, curve: Sequence[float], i: int) -> float:
    """Where the line from point i to the next one crosses the threshold."""
    share = (MIN_STABLE_RETENTION - curve[i]) / (curve[i + 1] - curve[i])
    return float(logs[i] + share * (logs[i + 1] - logs[i]))


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
