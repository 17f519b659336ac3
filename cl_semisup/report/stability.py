"""How far a loss can be trusted away from its tuned config: figures of merit over the learning-rate x batch-size grid.

Every figure is computed in each repetition on its own and reported as the mean over repetitions with a t-interval. A
run's score s counts as it is if the run ended ok, and as chance c if it collapsed or diverged: a collapsed network's
luck is no stability. With b the best score of the loss on the grid in that repetition, the retention of a cell is

    r = clip((s - c) / (b - c), 0, 1),   and 0 where b is not above the untrained floor: nothing was learnt to be kept.

A cell is stable if r >= 0.95. The coefficient of variation is no figure of merit: it calls a loss that collapses
everywhere perfectly stable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cl_semisup.report.ranking import Bounded
from cl_semisup.results.leaderboard import CONFIDENCE, Board, Cell, Estimate, Line, estimate, paired
from cl_semisup.suite.run import UNTRAINED

STABLE = 0.95


@dataclass(frozen=True)
class Stability:
    """The figures of one loss on one task; scores are fractions in [0, 1], estimates are over repetitions.

    Args:
        area: mean over batch sizes of the area under r over log10(learning rate), divided by the range: 1 if every
            learning rate keeps the best score, 0 if nothing was learnt. NaN with a single learning rate
        common_area: the same with b the best score of any loss of the task: low but flat does not win
        largest_learning_rate: log10 of the largest learning rate whose cells are stable at every batch size, over the
            repetitions that have one; its `n` says how many
        beyond_grid: is that the largest of the grid in every repetition, so that the true one may be larger?
        width_decades: longest run of neighbouring learning rates that are all stable at every batch size, in decades
        worst: smallest r of the grid
        spread: best minus worst score of the grid
        untuned: mean score of the grid, the expected score of a config chosen blindly
        tuning_gain: tuned minus untuned score
        broken_share: share of runs that collapsed or diverged, with Wilson's interval over runs
        cells: number of configs
    """

    loss: str
    area: Estimate
    common_area: Estimate
    largest_learning_rate: Estimate
    beyond_grid: bool
    width_decades: Estimate
    worst: Estimate
    spread: Estimate
    untuned: Estimate
    tuning_gain: Estimate
    broken_share: Bounded
    cells: int


def stability(board: Board) -> list[Stability]:
    """The figures of every loss with all its runs, in the board's order; [] where no grid was asked for."""
    lines = [line for line in board.trained if line.complete and len(line.cells) > 1]
    lines = [line for line in lines if not any(np.isnan(_scores(cell, board.score)).any() for cell in line.cells)]
    floor = next((line.values for line in board.lines if line.loss == UNTRAINED and line.complete), None)
    best_of_all = np.max([_grid(line, board.score).max(axis=0) for line in lines], axis=0) if lines else np.array([])
    return [_of_line(line, board.score, floor, best_of_all) for line in lines]


def _of_line(line: Line, score: str, floor: np.ndarray | None, best_of_all: np.ndarray) -> Stability:
    grid = _grid(line, score)  # (cells, R)
    chance = _chance(line)
    best = grid.max(axis=0)
    kept = retention(grid, best, chance, floor)
    common = retention(grid, best_of_all, chance, floor)
    rates = np.array([cell.learning_rate for cell in line.cells])
    groups = _by_batch(line.cells)
    stable = [stable_rates(kept[:, r], rates, groups) for r in range(grid.shape[1])]
    largest = [math.log10(max(one)) for one in stable if one]
    asked = sorted(set(rates.tolist()))
    statuses = [status for cell in line.cells for status in cell.runs["status"]]
    untuned = grid.mean(axis=0)
    return Stability(
        loss=line.loss,
        area=estimate(area(kept[:, r], rates, groups) for r in range(grid.shape[1])),
        common_area=estimate(area(common[:, r], rates, groups) for r in range(grid.shape[1])),
        largest_learning_rate=estimate(largest),
        beyond_grid=all(asked[-1] in one for one in stable),
        width_decades=estimate(width(one, asked) for one in stable),
        worst=estimate(kept.min(axis=0)),
        spread=estimate(best - grid.min(axis=0)),
        untuned=estimate(untuned),
        tuning_gain=paired(_scores(line.cell, score), untuned),
        broken_share=wilson(sum(status in ("collapsed", "diverged") for status in statuses), len(statuses)),
        cells=len(line.cells),
    )


def retention(grid: np.ndarray, best: np.ndarray, chance: float, floor: np.ndarray | None) -> np.ndarray:
    """(cells, R) share of the best above-chance score that a cell keeps; 0 where the best is not above the floor."""
    base = np.maximum(chance, floor) if floor is not None else np.full(len(best), chance)
    learnt = best > base
    return np.where(learnt, np.clip((grid - chance) / np.where(learnt, best - chance, 1.0), 0.0, 1.0), 0.0)


def area(kept: np.ndarray, rates: np.ndarray, groups: Sequence[np.ndarray]) -> float:
    """Mean over batch sizes of the trapezoid area of retention over log10(learning rate), divided by the range."""
    found = []
    for group in groups:
        logs = np.log10(rates[group])
        if len(set(logs)) < 2:
            return math.nan
        order = np.argsort(logs, kind="stable")
        x, y = logs[order], kept[group][order]
        found.append(float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0])))
    return float(np.mean(found))


def stable_rates(kept: np.ndarray, rates: np.ndarray, groups: Sequence[np.ndarray]) -> list[float]:
    """Learning rates whose cells are stable at every batch size, ascending."""
    broken = [{float(rates[i]) for i in group if kept[i] < STABLE} for group in groups]
    found = [{float(rate) for rate in rates[group]} - bad for group, bad in zip(groups, broken, strict=True)]
    return sorted(set.intersection(*found)) if found else []


def width(stable: Sequence[float], asked: Sequence[float]) -> float:
    """Decades of the longest run of stable rates that are neighbours among those asked for; 0 for one or none."""
    longest, start = 0.0, None
    for rate in asked:
        if rate not in stable:
            start = None
            continue
        start = rate if start is None else start
        longest = max(longest, math.log10(rate / start))
    return longest


def wilson(hits: int, n: int) -> Bounded:
    """A share with Wilson's score interval, which is not empty where none or all are hit."""
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else middle - half  # exactly, where rounding would miss it
    return Bounded(p, low, 1.0 if hits == n else middle + half)


def budget_slopes(boards: Sequence[Board]) -> dict[str, dict[str, Estimate]]:
    """Data set -> loss -> gain of the tuned score for ten times the labels, from the smallest to the largest budget.

    The two are paired by repetition. Only where the boards of a data set differ in nothing but the label budget;
    losses without all runs are left out.
    """
    of_dataset: dict[str, list[Board]] = {}
    for board in boards:
        of_dataset.setdefault(board.dataset, []).append(board)
    found = {}
    for dataset, its in of_dataset.items():
        budgets = [board.budget for board in its]
        if len(its) < 2 or len(set(budgets)) < len(budgets):
            continue
        low, high = its[budgets.index(min(budgets))], its[budgets.index(max(budgets))]
        tenfold = math.log10(high.budget / low.budget)
        few = {line.loss: line.values for line in low.trained if line.complete}
        many = {line.loss: line.values for line in high.trained if line.complete}
        found[dataset] = {loss: estimate((many[loss] - few[loss]) / tenfold) for loss in sorted(few) if loss in many}
    return found


def _grid(line: Line, score: str) -> np.ndarray:
    return np.stack([_scores(cell, score) for cell in line.cells])


def _scores(cell: Cell, score: str) -> np.ndarray:
    """(R,) as counted, a collapsed run as chance too."""
    chance = cell.runs["chance"].astype(float)
    return np.where(cell.runs["status"] == "collapsed", chance, cell.counted(score))


def _chance(line: Line) -> float:
    return max(cell.mean_of("chance") for cell in line.cells)


def _by_batch(cells: Sequence[Cell]) -> list[np.ndarray]:
    """Positions of the cells of each (batch size, rest of the config)."""
    groups: dict[tuple[float, str], list[int]] = {}
    for i, cell in enumerate(cells):
        rest = cell.config.partition(", batch")[2]
        groups.setdefault((cell.batch_size, rest), []).append(i)
    return [np.array(group) for group in groups.values()]
