"""What people see while a suite runs: a bar on a terminal, plain lines in a file."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from cl_semisup.scheduling.progress import LOG_SECONDS, Progress
from cl_semisup.suite.run import Run
from tests.helpers.records import run as make_run

ROOT = Path(__file__).parents[2]


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def record(run: Run, seconds: float, status: str = "ok") -> dict[str, Any]:
    cost = {"train_seconds": seconds - 0.5, "evaluation_seconds": 0.5}
    return {"run": run.as_dict(), "scores": {"knn_top1": 0.5}, "cost": cost, "status": status, "reason": ""}


@pytest.fixture
def progress() -> Progress:
    """Ten short runs and ten of four times the epochs, on a fake clock."""
    short, long = [make_run(repetition=r) for r in range(10)], [make_run(repetition=r, epochs=20) for r in range(10)]
    return Progress(short + long, Clock())


def pass_time(progress: Progress, seconds: float) -> None:
    progress.clock.seconds += seconds  # type: ignore[attr-defined]


def test_the_time_left_follows_from_the_cost_of_similar_runs(progress: Progress) -> None:
    assert progress.seconds_left() is None
    for r in range(5):
        progress.finished(make_run(repetition=r), record(make_run(repetition=r), 2.0))
    pass_time(progress, 10)
    assert progress.seconds_left() == pytest.approx(15 * 2)  # nothing is known of the long ones yet
    progress.finished(make_run(repetition=0, epochs=20), record(make_run(repetition=0, epochs=20), 8.0))
    pass_time(progress, -1)  # two workers: 18 seconds of runs in 9
    assert progress.seconds_left() == pytest.approx((5 * 2 + 9 * 8) / 2)


def test_runs_that_another_command_has_done_are_not_left(progress: Progress) -> None:
    for r in range(10):
        progress.done_elsewhere(make_run(repetition=r, epochs=20))
    assert progress.done == 10
    assert progress.seconds_left() is None
    progress.finished(make_run(), record(make_run(), 2.0))
    pass_time(progress, 2)
    assert progress.seconds_left() == pytest.approx(9 * 2)


def test_a_log_has_plain_lines_and_now_and_then_one_that_says_how_far_the_suite_is(
    progress: Progress, capsys: pytest.CaptureFixture[str]
) -> None:
    for r in range(6):
        progress.started(make_run(repetition=r))
    for _ in range(100):  # called often, writes seldom
        pass_time(progress, LOG_SECONDS / 100 + 0.01)
        progress.refresh()
    progress.finished(make_run(), record(make_run(), 2.0))
    pass_time(progress, LOG_SECONDS - 1)
    progress.refresh()
    progress.close()
    out, err = capsys.readouterr()
    texts = [f"digits nt_xent labels=0.1 r={r} lr=0.1 bs=64" for r in range(6)]
    assert out.splitlines() == [
        f"0 of 20 runs done in 60 seconds, running: {'; '.join(texts[:4])} and 2 more",
        f"[ 1/20] {texts[0]}  knn_top1 50.0  2.0 s  ok",
    ]
    assert err == ""


CODE = """
from tests.scheduling.test_progress import make_run, record
from cl_semisup.scheduling.progress import Progress
runs = [make_run(repetition=r) for r in range(3)]
progress = Progress(runs)
for one in runs:
    progress.started(one)
progress.finished(runs[0], record(runs[0], 2.0))
progress.close()
"""


def test_a_terminal_has_a_bar_with_the_time_left_and_what_is_running() -> None:
    """The bar goes to standard error, here a terminal; lines go to standard output, which may be a file."""
    parent, child = pty.openpty()
    try:
        termios.tcsetwinsize(child, (30, 120))
        os.set_blocking(parent, False)
        command = [sys.executable, "-c", CODE]
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=child, timeout=60, check=True)
        screen = os.read(parent, 65536).decode()
    finally:
        os.close(child)
        os.close(parent)
    assert process.stdout.decode() == "[1/3] digits nt_xent labels=0.1 r=0 lr=0.1 bs=64  knn_top1 50.0  2.0 s  ok\n"
    assert re.search(r"33%\|[^|]+\| 1/3 runs, about \d seconds left, running: digits nt_xent labels=0.1 r=1", screen)
    assert "running: digits nt_xent labels=0.1 r=0" in screen.partition("1/3")[0]
