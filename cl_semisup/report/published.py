"""Published numbers beside our own: of the cells that they speak of, the tuned one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cl_semisup.results import leaderboard
from cl_semisup.results.leaderboard import Board, Cell
from cl_semisup.results.statistics import MeanCI
from cl_semisup.results.validation import validation_score
from cl_semisup.suite.published import Published, name_and_settings


@dataclass(frozen=True)
class Comparison:
    """A published number, and our mean of the score over repetitions in the cell that it is compared with.

    `inside` is `yes` where the two intervals meet (a published number without one is a point), `no` where they do not,
    and "" without our mean or interval.
    """

    published: Published
    task: str
    config: str
    ours: MeanCI

    @property
    def inside(self) -> str:
        if math.isnan(self.ours.mean) or math.isnan(self.ours.ci_half_width):
            return ""
        reach = self.ours.ci_half_width + (self.published.interval or 0.0)
        return "yes" if abs(self.ours.mean - self.published.value) <= reach else "no"


def compare(boards: Sequence[Board], published: Iterable[Published], score: str) -> list[Comparison]:
    """Every number with every board that it speaks of, in the order of the suite; a dash where nothing has run."""
    comparisons = []
    for number in published:
        found = [c for board in boards if (c := _on_board(board, number, number.score or score)) is not None]
        comparisons += found or [Comparison(number, "", "", MeanCI())]
    return comparisons


def _on_board(board: Board, number: Published, score: str) -> Comparison | None:
    if number.dataset and board.dataset.partition("(")[0] != number.dataset:
        return None
    if number.label_fraction is not None and board.labels != f"{100 * number.label_fraction:g}%":
        return None
    rows = [row for row in board.trained_rows if _is_of(row.loss, number.loss)]
    cells = [cell for row in rows for cell in row.cells if _fits(cell, number)]
    if not cells:
        return None
    tuned = leaderboard.tune(cells, validation_score(board.score, board.validation))
    reported = next((row.reported_cell for row in rows if row.tuned_cell is tuned), tuned)
    return Comparison(number, board.task, tuned.config, reported.score_ci(score))


def _is_of(loss: str, published: str) -> bool:
    """Whether a row's loss has the published name and settings."""
    (name, settings), (wanted, with_settings) = map(name_and_settings, (loss, published))
    return name == wanted and with_settings <= settings


def _fits(cell: Cell, number: Published) -> bool:
    return number.batch_size is None or cell.batch_size == number.batch_size
