"""The stability map of a task: for every loss, its score and verdict over learning rate x batch size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cl_semisup.report import wording
from cl_semisup.results import leaderboard
from cl_semisup.results.leaderboard import Board, Cell, Line
from cl_semisup.suite.run import UNTRAINED


@dataclass(frozen=True)
class Square:
    """One config: text, verdict, its shade between chance (0) and the task's best (1), what hovering says."""

    text: str
    verdict: str
    shade: float
    title: str
    tuned: bool


@dataclass(frozen=True)
class Map:
    """A loss's map; `rest` names the optimizer and schedule where a suite varies them."""

    loss: str
    rest: str
    learning_rates: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square | None, ...]], ...]


def maps(board: Board) -> list[Map]:
    """The maps of every loss of a task; [] where no loss has more than one config."""
    if all(len(line.cells) < 2 for line in board.trained):
        return []
    means = [cell.estimate(board.score).mean for line in board.trained for cell in line.cells]
    best = max((m for m in means if not math.isnan(m)), default=math.nan)
    floor = next((line.values for line in board.lines if line.loss == UNTRAINED and line.complete), None)
    found = []
    for line in board.trained:
        by_rest: dict[str, list[Cell]] = {}
        for cell in line.cells:
            by_rest.setdefault(cell.config.partition(", batch ")[2].partition(", ")[2], []).append(cell)
        found += [_map(line, rest, cells, Shading(board.score, best, floor)) for rest, cells in by_rest.items()]
    return found


@dataclass(frozen=True, eq=False)
class Shading:
    """What a task's squares are compared with: the score, its best mean, the untrained floor by repetition."""

    score: str
    best: float
    floor: np.ndarray | None


def _map(line: Line, rest: str, cells: Sequence[Cell], shading: Shading) -> Map:
    rates = sorted({cell.learning_rate for cell in cells})
    batches = sorted({cell.batch_size for cell in cells})
    at = {(cell.batch_size, cell.learning_rate): cell for cell in cells}
    rows = []
    for batch in batches:
        squares = [_square(at[batch, r], shading, line) if (batch, r) in at else None for r in rates]
        rows.append((f"{batch:g}", tuple(squares)))
    return Map(line.loss, rest, tuple(f"{rate:g}" for rate in rates), tuple(rows))


def _square(cell: Cell, shading: Shading, line: Line) -> Square:
    found, best = cell.estimate(shading.score), shading.best
    word = leaderboard.verdict(cell, shading.score, shading.floor)
    ended = leaderboard.endings(cell.runs["status"])
    title = (
        f"{cell.loss}, {cell.config}: {wording.percent(found, len(cell.runs['status']))} %, {wording.endings(ended)}"
    )
    reasons = sorted(set(cell.runs["reason"]) - {""})
    text = wording.DASH if math.isnan(found.mean) else f"{100 * found.mean:.1f}"
    shade = 0.0
    chance = cell.mean_of("chance")
    if not math.isnan(found.mean) and not math.isnan(chance) and best > chance:
        shade = min(max((found.mean - chance) / (best - chance), 0.0), 1.0)
    return Square(text, word, round(shade, 3), "; ".join([title, *reasons]), cell is line.cell)
