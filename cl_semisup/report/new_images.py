"""The table with intervals for new test images: scores and differences over repetitions and images, both drawn anew."""

from pathlib import Path

import numpy as np

from cl_semisup.report import wording
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results import records, right_images
from cl_semisup.results.leaderboard import Board, Cell
from cl_semisup.results.statistics import MeanCI, crossed_ci

NOTE = (
    "Intervals speak of new repetitions on these test images. Those of the tables for new test images speak of other"
    " images too, drawn as these were: there, repetitions and images are crossed, and differences are paired by both."
)


def new_images_table(board: Board, results: Path) -> Table | None:
    """Scores with both kinds of intervals; None where the records do not say which test images are right."""
    right = {row.loss: _right(row.reported_cell, board.score, results) for row in board.rows}
    if all(values is None for values in right.values()):
        return None
    base_row = board.row_of(board.baseline)
    columns = [
        LOSS,
        Column(f"{board.score} %", "mean ± half of its 95 % interval for new repetitions on these test images"),
        Column("± with new images", "half of the 95 % interval for new repetitions and new test images, points"),
    ]
    if base_row:
        meaning = f"difference to {board.baseline}, paired by repetition and image, with this interval, points"
        columns.append(Column(f"vs {board.baseline} with new images", meaning))
    rows = []
    for row in board.rows:
        own, score = right[row.loss], row.scores[board.score]
        half_width = MeanCI().mean if own is None else crossed_ci(own).ci_half_width
        entries = [Entry(row.loss, row.loss), Entry(wording.format_percent(score), score.mean)]
        entries.append(Entry(wording.format_number(100 * half_width, ".1f"), half_width))
        if base_row and row is base_row:
            entries.append(Entry("baseline", 0.0))
        elif base_row:
            same = np.array_equal(row.reported_cell.runs["repetition"], base_row.reported_cell.runs["repetition"])
            difference = _difference(own, right[base_row.loss]) if same else MeanCI()
            entries.append(Entry(wording.format_points(difference), difference.mean))
        rows.append(tuple(entries))
    return Table(f"For new test images, {board.task}", tuple(columns), tuple(rows))


def _difference(own: np.ndarray | None, base: np.ndarray | None) -> MeanCI:
    if own is None or base is None or own.shape != base.shape:
        return MeanCI()
    return crossed_ci(own - base)


def _right(cell: Cell, score: str, results: Path) -> np.ndarray | None:
    """(R, T) whether each repetition has each test image right; chance for a diverged run. None if one is not known.

    Nor are folds known here: their repetitions are tested on different images.
    """
    rows: list[np.ndarray | float] = []
    scores = cell.repetition_scores(score)
    for path, status, value in zip(cell.runs["path"], cell.runs["status"], scores, strict=True):
        if status == "diverged":
            rows.append(float(value))
            continue
        record = results / path
        bits = None if np.isnan(value) else right_images.unpack(records.read_curves(record).get("right"), score)
        if bits is None or abs(bits.mean() - value) > records.ROUNDING or (not rows and _has_folds(record)):
            return None
        rows.append(bits.astype(float))
    images = {len(row) for row in rows if isinstance(row, np.ndarray)}
    if len(images) != 1:
        return None
    return np.array([np.broadcast_to(row, images) for row in rows])


def _has_folds(path: Path) -> bool:
    return any(settings.get("folds") for settings in records.read(path)["run"]["dataset"].values())
