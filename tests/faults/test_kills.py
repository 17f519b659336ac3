"""Processes are killed at random times: finished runs stay, and the benchmark ends as an undisturbed one.

The long form, with 200 faults and more, is `python benchmarks/faults.py`.
"""

from pathlib import Path

import pytest

from benchmarks import faults

PLAN = faults.Plan((6, 1, 1, 1, 1), repetitions=8, spread=0.5)


@pytest.mark.timeout(900)
def test_ten_kills_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    tally, wrong = faults.trial(PLAN, tmp_path, seed=7)
    assert tuple(tally.injected[kind] for kind in faults.KINDS) == PLAN.faults
    assert tally.survived == tally.injected
    assert (tally.lost, tally.torn) == (0, 0)
    assert wrong == []
