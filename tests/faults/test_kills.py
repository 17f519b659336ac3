"""Processes die at random instants: what was finished stays, and the benchmark ends as if nothing had happened.

The long form, with 200 faults and more, is `python benchmarks/faults.py`.
"""

import random
from pathlib import Path

import pytest

from benchmarks import faults
from cl_semisup import records

TINY = Path(__file__).with_name("tiny.yaml")
FAULTS = 20


@pytest.mark.timeout(600)
def test_twenty_kills_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    undisturbed, disturbed, tally = tmp_path / "undisturbed", tmp_path / "disturbed", faults.Tally()
    assert faults.start(TINY, undisturbed, 2, tmp_path / "log").wait() == 0, (tmp_path / "log").read_text()
    faults.disturb(TINY, disturbed, FAULTS, random.Random(7), tally, spread=2.0)
    assert tally.injected.total() > FAULTS // 2  # it may have ended before the last of them
    assert tally.survived == tally.injected
    assert (tally.lost, tally.torn) == (0, 0)
    assert len(list(records.every(disturbed))) == 12
    assert faults.differences(undisturbed, disturbed) == []
    assert faults.unequal_reports(TINY, undisturbed, disturbed) == []
    assert faults.litter(disturbed) == []
