"""How often a loss breaks down over its grid, by several definitions, so that no answer hangs on one threshold.

A unit is a repetition: the share of its configs that broke down. Two losses are compared on the same repetitions by a
sign-flip test of the differences of these shares, which assumes no distribution. Of six repetitions its smallest
two-sided p is 1 / 32.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cl_semisup.results.leaderboard import Board, Cell, Row
from cl_semisup.results.statistics import MeanCI, paired_difference
from cl_semisup.results.verdict import MIN_FEATURE_STD, RANK
from cl_semisup.suite.run import UNTRAINED

EXACT_UP_TO = 14  # repetitions, of which all 2**14 sign patterns are counted; of more, as many random ones
DEFINITIONS = {
    "verdict": "collapsed or diverged by the verdict",
    "diverged": "the loss or a gradient was no longer a number, or the loss exploded",
    "one point": f"diverged, or a feature std below {MIN_FEATURE_STD} of a uniform cloud's",
    "one line": f"diverged, or an effective rank of the features below {RANK:g}",
    "kNN": "diverged, or a kNN score not above the untrained network's in the same repetition",
    "linear": "diverged, or a linear score not above the untrained network's in the same repetition",
}
SCORES = {"kNN": "knn_top1", "linear": "linear_top1"}
LOWEST = {"one point": ("feature_std", MIN_FEATURE_STD), "one line": ("effective_rank", RANK)}


@dataclass(frozen=True)
class Broken:
    """Share of runs that broke down by one definition, the paired difference to the baseline's, and its p."""

    share: MeanCI
    difference: MeanCI
    p: float


def breakdown(board: Board) -> dict[str, dict[str, Broken]]:
    """Loss -> definition -> share; {} if no run collapsed or diverged, or the suite has no grid."""
    rows = [row for row in board.trained_rows if row.complete and len(row.cells) > 1]
    if not any({"collapsed", "diverged"} & row.status_counts.keys() for row in rows):
        return {}
    floor = board.row_of(UNTRAINED)
    shares = {row.loss: _shares(row, floor.reported_cell if floor and floor.complete else None) for row in rows}
    base = shares.get(board.baseline, {})
    return {
        loss: {name: _compare(own, base.get(name) if loss != board.baseline else None) for name, own in of_loss.items()}
        for loss, of_loss in shares.items()
    }


def _shares(row: Row, floor: Cell | None) -> dict[str, np.ndarray]:
    """Definition -> (R,) share of the configs that broke down in a repetition; those that cannot be told are absent."""
    broken: dict[str, list[np.ndarray]] = {}
    for cell in row.cells:
        for name, values in _broken(cell.runs, floor).items():
            broken.setdefault(name, []).append(values)
    return {name: np.mean(of_cells, axis=0) for name, of_cells in broken.items() if len(of_cells) == len(row.cells)}


def _broken(runs: Mapping[str, np.ndarray], floor: Cell | None) -> dict[str, np.ndarray]:
    """Definition -> (R,) whether the run of a repetition broke down."""
    diverged = runs["status"] == "diverged"
    found = {"verdict": diverged | (runs["status"] == "collapsed"), "diverged": diverged}
    for name, (column, lowest) in LOWEST.items():
        if column in runs:
            found[name] = diverged | (runs[column].astype(float) < lowest)
    for name, score in SCORES.items():
        if floor is not None and score in runs and len(floor.runs[score]) == len(diverged):
            found[name] = diverged | (runs[score].astype(float) <= floor.runs[score].astype(float))
    return found


def _compare(own: np.ndarray, base: np.ndarray | None) -> Broken:
    share = MeanCI(float(own.mean()), n=len(own))
    if base is None or len(base) != len(own):
        return Broken(share, MeanCI(), math.nan)
    return Broken(share, paired_difference(own, base), sign_flip_p(own - base))


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the sum when every difference could as well have the other sign; NaN without differences."""
    x = np.asarray(differences, dtype=float)
    if not len(x):
        return math.nan
    if len(x) <= EXACT_UP_TO:
        signs = 1 - 2 * (np.arange(2 ** len(x))[:, None] >> np.arange(len(x)) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1, 1), size=(2**EXACT_UP_TO, len(x)))
        signs[0] = 1  # the signs that were found are among them, so that no p is 0
    return float((np.abs(signs @ x) >= abs(x.sum()) - 1e-9).mean())
