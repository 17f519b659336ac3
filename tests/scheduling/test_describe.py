"""What `check` tells of a data set: its pixels are read where they are few, or known."""

from pathlib import Path

import pytest

from cl_semisup.scheduling import describe, suite_run
from cl_semisup.suite import suite as suites

DIGITS = 1797 * 64  # bytes


@pytest.mark.parametrize(("limit", "read"), [(DIGITS, True), (DIGITS - 1, False)])
def test_pixels_are_read_up_to_a_limit(limit: int, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "MAX_BYTES", limit)
    assert (describe.describe({"digits": {}}, str(tmp_path), read_pixels=True).pixels is not None) is read
    assert describe.describe({"digits": {}}, str(tmp_path), read_pixels=False).pixels is None


def test_a_snapshot_is_taken_from_the_folder_while_the_suites_file_is_the_same(tmp_path: Path, text: str) -> None:
    file, results = tmp_path / "s.yaml", tmp_path / "results"
    file.write_text(text)
    made = suite_run.snapshot_of(results, file, None)  # nothing is stored yet
    assert [run.id for run in made.runs] == [run.id for run in suites.read(file).runs]
    made.save(results)
    stored = suite_run.snapshot_of(results, file, None)
    assert stored.runs == made.runs
    file.write_text(text.replace("repetitions: 1", "repetitions: 2"))
    assert len(suite_run.snapshot_of(results, file, None).runs) > len(stored.runs)
