"""Similarity of the features of losses: unbiased linear CKA of the Gram matrices that the probe `similarity` stores."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cl_semisup.results import records
from cl_semisup.results.leaderboard import UNFINISHED_STATUSES, Board, Cell
from cl_semisup.results.statistics import MeanCI, mean_ci_if_complete

MAX_ENTRY = 1_000_000  # a stranger's file may hold anything
Gram = np.ndarray | None  # the entries of a run, at length 1; None if there are none


@dataclass(frozen=True)
class Similarity:
    """CKA of the tuned configs of a task's losses.

    Args:
        images: number of test images, the same for all
        between: (loss, other) -> paired by repetition: both networks have the same initial weights
        within: loss -> mean over all pairs of its repetitions, whose initial weights differ; no interval, since a run
            is in several pairs; NaN with one repetition or if one is missing
    """

    images: int
    between: dict[tuple[str, str], MeanCI]
    within: dict[str, float]


def similarity(board: Board, results: Path) -> Similarity | None:
    """None if no run has stored a Gram matrix."""
    if not any(row.diagnostics.get("gram_images", MeanCI()).n for row in board.rows):
        return None
    stored = {row.loss: _grams(row.reported_cell, results) for row in board.rows}
    longest = max((len(gram) for grams in stored.values() for gram in grams if gram is not None), default=0)
    if not longest:
        return None
    between = {(a, b): _paired(stored[a], stored[b]) for a in stored for b in stored if a != b}
    within = {loss: _mean(cka(x, y) for x, y in combinations(grams, 2)) for loss, grams in stored.items()}
    return Similarity(math.isqrt(2 * longest) + 1, between, within)  # n images have n (n - 1) / 2 entries


def cka(x: Gram, y: Gram) -> float:
    """Of two runs; NaN if one has no entries, or if they are of different images."""
    return float(x @ y) if x is not None and y is not None and len(x) == len(y) else math.nan


def _paired(a: list[Gram], b: list[Gram]) -> MeanCI:
    if len(a) != len(b):
        return MeanCI()
    return mean_ci_if_complete(np.array([cka(x, y) for x, y in zip(a, b, strict=True)]))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def _grams(cell: Cell, results: Path) -> list[Gram]:
    """Of every repetition."""
    return [_unit(curves.get("gram")) for curves in curves_of(cell, results)]


def curves_of(cell: Cell, results: Path) -> list[dict[str, Any]]:
    """The curves of every repetition; {} of a run that is still to do."""
    runs = zip(cell.runs["status"], cell.runs["path"], strict=True)
    return [{} if status in UNFINISHED_STATUSES else records.read_curves(results / path) for status, path in runs]


def _unit(entries: object) -> Gram:
    """Entries scaled to length 1; None for anything but whole numbers that are not all 0."""
    if not isinstance(entries, list) or set(map(type, entries)) != {int} or max(map(abs, entries)) > MAX_ENTRY:
        return None
    gram = np.array(entries, dtype=float)
    length = float(np.linalg.norm(gram))
    return gram / length if length else None
