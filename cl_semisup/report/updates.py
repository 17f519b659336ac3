"""Similarity of updates: do two losses change features in the same direction? From the probe `update_similarity`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cl_semisup.report import wording
from cl_semisup.report.similarity import curves_of
from cl_semisup.report.tables import LOSS, Column, Entry, Table
from cl_semisup.results.leaderboard import Board
from cl_semisup.results.statistics import MeanCI, mean_ci_if_complete

MEASURES = {
    "update_similarity": "mean cosine of a test image's change of features and that by one supervised gradient step",
    "update_similarity_untrained": "the same of other initial weights, never trained: only what is above it counts",
    "update_similarity_random": "the same of the change and a random direction",
}
MAX_ENTRY = 1_000_000  # a stranger's file may hold anything


def updates_table(board: Board, results: Path) -> Table | None:
    """The probe's cosines with their baselines, and the cosine to the baseline loss, paired by repetition.

    None if no run was probed.
    """
    if not any(row.diagnostics.get("update_similarity", MeanCI()).n for row in board.rows):
        return None
    columns = [LOSS, *(Column(name.removeprefix("update_"), meaning) for name, meaning in MEASURES.items())]
    base_row = board.row_of(board.baseline)
    base = curves_of(base_row.reported_cell, results) if base_row else []
    if base_row:
        meaning = f"mean cosine of a test image's change with this loss and with {board.baseline}, paired by repetition"
        columns.append(Column(f"to {board.baseline}", meaning))
    rows = []
    for row in board.rows:
        found = [row.diagnostics.get(name, MeanCI()) for name in MEASURES]
        entries = [Entry(row.loss, row.loss), *(Entry(wording.format_mean_ci(one), one.mean) for one in found)]
        if base_row is row:
            entries.append(Entry("itself", 1.0))
        elif base_row:
            own = curves_of(row.reported_cell, results)
            pairs = zip(own, base, strict=True) if len(own) == len(base) else ()
            cosine = mean_ci_if_complete(np.array([update_cosine(a, b) for a, b in pairs]))
            entries.append(Entry(wording.format_mean_ci(cosine), cosine.mean))
        rows.append(tuple(entries))
    return Table(f"Similarity of updates on {board.task}", tuple(columns), tuple(rows))


def update_cosine(curves: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Mean cosine of the rows in two runs' curves (`records.read_curves`); NaN without any, or of different shapes."""
    a, b = (_rows(one.get("updates")) for one in (curves, other))
    if a is None or b is None or a.shape != b.shape:
        return math.nan
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).mean())


def _rows(entries: object) -> np.ndarray | None:
    """(n, F); None for anything but rows of as many whole numbers."""
    if not isinstance(entries, list) or not entries or not all(isinstance(row, list) and row for row in entries):
        return None
    if len({len(row) for row in entries}) != 1 or {type(x) for row in entries for x in row} != {int}:
        return None
    rows = np.array(entries, dtype=float)
    return rows if np.abs(rows).max() <= MAX_ENTRY else None
