"""A report that follows a suite: made again when runs finish and not otherwise, by a process that stops with the run."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_semisup import report
from cl_semisup.execution import training_groups
from cl_semisup.report import live
from cl_semisup.scheduling.claims import Claims
from cl_semisup.suite import suite
from tests.helpers.records import grid, select, write

ROOT = Path(__file__).parents[2]
GOING_ON = "Runs were going on when this page was made."


def wait_for(there: Callable[[], bool]) -> bool:
    end = time.monotonic() + 300  # the other process has the lowest priority: beside other work it may wait for minutes
    while time.monotonic() < end:
        if there():
            return True
        time.sleep(0.05)
    return False


def test_a_report_is_made_again_only_when_runs_have_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = grid(["nt_xent"], 2)
    made, slept, left_seen = [], [], []
    monkeypatch.setattr(report, "make", lambda *_, reload_seconds: made.append(reload_seconds))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) in (2, 3):  # nothing happens in the first pause
            write(tmp_path, runs[len(slept)])

    def go_on(left: int) -> bool:
        left_seen.append(left)
        return len(left_seen) < 6

    monkeypatch.setattr(time, "sleep", sleep)
    live.watch(tmp_path, select(runs), 7.0, go_on)
    assert left_seen == [4, 4, 3, 2, 2, 2]
    assert made == [7.0] * 3
    assert slept == [7.0] * 5


def test_a_report_that_takes_long_is_made_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(report, "make", lambda *_, **__: clock.__setitem__(0, clock[0] + 20))
    live.watch(tmp_path, select(grid(["nt_xent"], 1)), 7.0, lambda _: not slept)
    assert slept == [pytest.approx(200)]


def test_another_process_follows_and_goes_with_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = grid(["nt_xent"], 2)
    select(runs).save(tmp_path)
    page = tmp_path / "made" / "report.html"
    with live.watch_in_background(tmp_path, "made", 0.1):
        assert wait_for(page.exists)
        assert GOING_ON in page.read_text("utf-8")
        assert "4 runs: missing 4" in page.read_text("utf-8")
        write(tmp_path, runs[0])
        assert wait_for(lambda: "4 runs: ok 1, missing 3" in page.read_text("utf-8"))
    write(tmp_path, runs[1])
    time.sleep(0.3)
    assert "ok 1" in page.read_text("utf-8")
    assert not list((tmp_path / "made").glob(".tmp-*"))
    assert capfd.readouterr() == ("", "")


def test_a_record_that_cannot_be_read_ends_the_refreshing_with_a_word_and_not_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = grid(["nt_xent"], 1)
    select(runs).save(tmp_path)
    write(tmp_path, runs[0]).write_text("{")
    said = []
    with live.watch_in_background(tmp_path, "made", 0.1):
        assert wait_for(lambda: said.append(capfd.readouterr().err) or "not refreshed any more" in "".join(said))  # type: ignore[func-returns-value]
    assert "must be a record in JSON" in "".join(said)
    assert "Traceback" not in "".join(said)


def test_a_suite_run_under_watch_ends_with_a_report_at_rest(tmp_path: Path) -> None:
    words = [sys.executable, "benchmark.py", "tests/tiny.yaml", "--results", str(tmp_path), "--watch", "0.1"]
    page, claims = tmp_path / "tiny" / "report.html", Claims(tmp_path)
    first, *_ = training_groups.group(suite.read(ROOT / "tests" / "tiny.yaml").runs)
    assert claims.take(first.id)  # the suite cannot end before this is given back
    with subprocess.Popen([*words, "--workers", "1"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert wait_for(page.exists)
        assert GOING_ON in page.read_text("utf-8")
        claims.release(first.id)
        assert "3 runs: ok 3" in run.communicate()[0]
    assert run.returncode == 0
    assert GOING_ON not in page.read_text("utf-8")


def test_report_under_watch_returns_when_all_runs_are_done(tmp_path: Path) -> None:
    runs = grid(["nt_xent"], 1)
    select(runs).save(tmp_path)
    for one in runs:
        write(tmp_path, one)
    words = [sys.executable, "benchmark.py", "report", "made", "--results", str(tmp_path), "--watch"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "2 runs: ok 2" in done.stdout
