"""How often losses break down, against counts by hand; the sign-flip test against scipy's."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from cl_semisup.report.breakdown import breakdown, sign_flip_p
from cl_semisup.results.leaderboard import Board, Cell, Row
from cl_semisup.results.statistics import MeanCI
from cl_semisup.suite.run import UNTRAINED

STATUSES = {"o": "ok", "c": "collapsed", "d": "diverged"}


def cell(statuses: str, knn: Sequence[float], std: float = 0.3) -> Cell:
    """One config with a run a letter; a diverged run has no scores."""
    status = np.array([STATUSES[letter] for letter in statuses], dtype=object)
    gone = np.array([letter == "d" for letter in statuses])
    runs = {
        "status": status,
        "knn_top1": np.where(gone, np.nan, knn),
        "linear_top1": np.where(gone, np.nan, 0.9),
        "feature_std": np.where(gone, np.nan, std),
        "effective_rank": np.where(gone, np.nan, 5.0),
        "chance": np.full(len(status), 0.1),
    }
    return Cell("loss", f"{statuses} {std}", 0.1, 32, runs)


def row(loss: str, *cells: Cell) -> Row:
    counts: dict[str, int] = {}
    for status in (status for one in cells for status in one.runs["status"]):
        counts[status] = counts.get(status, 0) + 1
    scores = np.full(len(cells[0].runs["status"]), 0.9)
    nothing = MeanCI()
    return Row(loss, cells[0], cells[0], cells, scores, {}, {}, nothing, nothing, "ok", counts, 0.5, math.nan)


def board(*rows: Row) -> Board:
    return Board("task", "task", "digits", 0.1, "10%", "linear_top1", "nt_xent", rows)


FLOOR = row(UNTRAINED, cell("oooo", [0.5, 0.5, 0.5, 0.7]))


def test_shares_are_those_counted_by_hand() -> None:
    base = row("nt_xent", cell("oooo", [0.6, 0.6, 0.6, 0.6]), cell("oocd", [0.6, 0.4, 0.2, 0.2]))
    other = row("clop", cell("oooo", [0.8] * 4), cell("cccc", [0.8] * 4, std=0.001))
    found = breakdown(board(base, other, FLOOR))
    shares = {name: broken.share.mean for name, broken in found["nt_xent"].items()}
    assert shares == {
        "verdict": 2 / 8,  # one collapsed, one diverged
        "diverged": 1 / 8,
        "one point": 1 / 8,
        "one line": 1 / 8,
        "kNN": 4 / 8,  # 0.6 against 0.7; 0.4 and 0.2 against 0.5; and the diverged one
        "linear": 8 / 8,  # 0.9 is not above 0.9
    }
    assert found["clop"]["one point"].share.mean == 0.5
    assert found["clop"]["verdict"].difference.mean == pytest.approx(0.5 - 0.25)
    assert math.isnan(found["nt_xent"]["verdict"].p)


def test_nothing_is_said_where_nothing_broke_or_there_is_no_grid() -> None:
    sound = row("nt_xent", cell("oooo", [0.6] * 4), cell("oooo", [0.7] * 4))
    assert breakdown(board(sound, FLOOR)) == {}
    assert breakdown(board(row("nt_xent", cell("cccc", [0.6] * 4)), FLOOR)) == {}


def test_without_a_floor_scores_break_nothing() -> None:
    broken = row("nt_xent", cell("oooo", [0.6] * 4), cell("cooo", [0.7] * 4))
    assert set(breakdown(board(broken))["nt_xent"]) == {"verdict", "diverged", "one point", "one line"}


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_the_sign_flip_test_is_scipys_exact_one(n: int) -> None:
    x = np.random.default_rng(n).normal(0.4, 1, n)
    every = stats.permutation_test((x,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(x) == pytest.approx(every.pvalue)


def test_the_sign_flip_test_of_equal_losses_and_of_all_signs_alike() -> None:
    assert sign_flip_p(np.zeros(6)) == 1
    assert sign_flip_p(np.full(6, 0.2)) == 2 / 2**6
    assert 0 < sign_flip_p(np.full(40, 0.2)) < 1e-3
    assert math.isnan(sign_flip_p(np.array([])))
