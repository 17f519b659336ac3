"""How alike the features of losses are: unbiased linear CKA, from what the probe `similarity` keeps beside records."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from cl_semisup.results import records
from cl_semisup.results.leaderboard import UNFINISHED, Board, Cell, Estimate, complete

LARGEST = 1_000_000  # of an entry: a stranger's file may hold anything
Gram = np.ndarray | None  # the entries of a run, at length 1; None where there are none


@dataclass(frozen=True)
class Similarity:
    """CKA of the tuned configs of a task's losses.

    Args:
        images: on how many test images, the same for all
        between: (loss, other) -> paired by repetition: both networks began with the same weights
        within: loss -> mean over all pairs of its repetitions, which begin with different ones; no interval, since a
            run is in several pairs, and NaN with one repetition or where one lacks
    """

    images: int
    between: dict[tuple[str, str], Estimate]
    within: dict[str, float]


def similarity(board: Board, results: Path) -> Similarity | None:
    """None where no run has kept anything to compare."""
    if not any(line.diagnostics.get("gram_images", Estimate()).n for line in board.lines):
        return None
    kept = {line.loss: _grams(line.cell, results) for line in board.lines}
    longest = max((len(gram) for grams in kept.values() for gram in grams if gram is not None), default=0)
    if not longest:
        return None
    between = {(a, b): _paired(kept[a], kept[b]) for a in kept for b in kept if a != b}
    within = {loss: _mean(cka(x, y) for x, y in combinations(grams, 2)) for loss, grams in kept.items()}
    return Similarity(math.isqrt(2 * longest) + 1, between, within)  # n images have n (n - 1) / 2 entries


def cka(x: Gram, y: Gram) -> float:
    """Of two runs; NaN where one has no entries, or they are of other images."""
    return float(x @ y) if x is not None and y is not None and len(x) == len(y) else math.nan


def _paired(a: list[Gram], b: list[Gram]) -> Estimate:
    return complete(np.array([cka(x, y) for x, y in zip(a, b, strict=True)])) if len(a) == len(b) else Estimate()


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan


def _grams(cell: Cell, results: Path) -> list[Gram]:
    """Of every repetition."""
    ended = zip(cell.runs["status"], cell.runs["path"], strict=True)
    return [None if s in UNFINISHED else _unit(records.read_curves(results / path).get("gram")) for s, path in ended]


def _unit(entries: object) -> Gram:
    """Entries at length 1; None for anything but whole numbers of which one is not 0."""
    if not isinstance(entries, list) or set(map(type, entries)) != {int} or max(map(abs, entries)) > LARGEST:
        return None
    found = np.array(entries, dtype=float)
    length = float(np.linalg.norm(found))
    return found / length if length else None
