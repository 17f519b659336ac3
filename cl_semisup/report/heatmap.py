"""Heatmaps of a task: for every loss, its score and verdict over learning rate x batch size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cl_semisup.report import wording
from cl_semisup.results import leaderboard
from cl_semisup.results.leaderboard import Board, Cell, Row


@dataclass(frozen=True)
class Square:
    """One config: text, verdict, shade from chance (0) to the task's best (1), hover text, is it the tuned one?"""

    text: str
    verdict: str
    shade: float
    title: str
    tuned: bool


@dataclass(frozen=True)
class Heatmap:
    """A loss's heatmap, a row a batch size; `rest` names the optimizer and schedule if a suite varies them."""

    loss: str
    rest: str
    learning_rates: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Square | None, ...]], ...]


def heatmaps(board: Board) -> list[Heatmap]:
    """The heatmaps of every loss of a task; [] if no loss has more than one config."""
    if all(len(row.cells) < 2 for row in board.trained_rows):
        return []
    means = [cell.score_ci(board.score).mean for row in board.trained_rows for cell in row.cells]
    best = max((mean for mean in means if not math.isnan(mean)), default=math.nan)
    maps = []
    for row in board.trained_rows:
        by_rest: dict[str, list[Cell]] = {}
        for cell in row.cells:
            by_rest.setdefault(cell.config.partition(", batch ")[2].partition(", ")[2], []).append(cell)
        maps += [_heatmap(board, best, row, rest, cells) for rest, cells in by_rest.items()]
    return maps


def _heatmap(board: Board, best: float, row: Row, rest: str, cells: Sequence[Cell]) -> Heatmap:
    rates = sorted({cell.learning_rate for cell in cells})
    squares = {(cell.batch_size, cell.learning_rate): _square(board, best, row, cell) for cell in cells}
    rows = [
        (f"{batch:g}", tuple(squares.get((batch, rate)) for rate in rates))
        for batch in sorted({cell.batch_size for cell in cells})
    ]
    return Heatmap(row.loss, rest, tuple(f"{rate:g}" for rate in rates), tuple(rows))


def _square(board: Board, best: float, row: Row, cell: Cell) -> Square:
    score, chance = cell.score_ci(board.score), cell.metric_mean("chance")
    percent = wording.format_percent(score, len(cell.runs["status"]))
    counts = wording.format_status_counts(leaderboard.status_counts(cell.runs["status"]))
    reasons = sorted(set(cell.runs["reason"]) - {""})
    title = "; ".join([f"{cell.loss}, {cell.config}: {percent} %, {counts}", *reasons])
    text = wording.DASH if math.isnan(score.mean) else f"{100 * score.mean:.1f}"
    shade = 0.0
    if not math.isnan(score.mean) and not math.isnan(chance) and best > chance:
        shade = min(max((score.mean - chance) / (best - chance), 0.0), 1.0)
    verdict = leaderboard.verdict(cell, board.score, board.floor_scores)
    return Square(text, verdict, round(shade, 3), title, cell is row.tuned_cell)
