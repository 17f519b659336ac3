"""A report that is refreshed while a suite's runs finish, in a process of its own at the lowest priority.

This process only reads records and never talks to the runs. Reports take at most a tenth of one core's time, however
long one report takes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cl_semisup import report
from cl_semisup.errors import ResultsError
from cl_semisup.report.search_result import search_result
from cl_semisup.results import records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.text import degrade_streams, show, visible

MAX_TIME_SHARE = 0.1  # of the time, spent on making reports


def watch(results: Path, suite: SuiteSnapshot, seconds: float, go_on: Callable[[int], bool]) -> None:
    """Make the report when records have changed, at most once every `seconds`, as long as `go_on(runs left)`."""
    reported: dict[str, int] | None = None
    while True:
        suite = snapshot.load(results, suite.name) if suite.in_rounds else suite  # its next round has other runs
        if not go_on(_left(results, suite, finished := _write_times(results, suite))):
            return
        began = time.monotonic()
        if finished != reported:
            report.make(results, suite, reload_seconds=seconds)
            reported = finished
        time.sleep(max(seconds, (time.monotonic() - began) / MAX_TIME_SHARE))


def _left(results: Path, suite: SuiteSnapshot, finished: dict[str, int]) -> int:
    """Runs left; at least one while a search has rounds to come."""
    left = len(suite.runs) - len(finished)
    if left == 0 and (searched := search_result(results, suite)):
        return int(not searched.finished)
    return left


def _write_times(results: Path, suite: SuiteSnapshot) -> dict[str, int]:
    """Run id -> when its record was written (ns), of the runs that have one."""
    times = {run.id: records.mtime(records.path_of(results, run)) for run in suite.runs}
    return {run_id: time for run_id, time in times.items() if time is not None}


@contextmanager
def watch_in_background(results: Path, name: str, seconds: float) -> Iterator[None]:
    """Inside this context another process watches the suite; a terminal's Ctrl-C does not reach it."""
    command = [sys.executable, "-m", "cl_semisup.report.live", str(results), name, str(seconds)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, process_group=0)
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def main(results: str, name: str, seconds: str) -> None:
    """Watch until the process that started this one stops it or ends."""
    degrade_streams()
    parent = os.getppid()
    if hasattr(os, "nice"):  # not on Windows
        os.nice(19)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a half-written file is removed on the way out
    try:
        watch(Path(results), snapshot.load(Path(results), name), float(seconds), lambda _: os.getppid() == parent)
    except ResultsError as error:
        show(f"The report is not refreshed any more: {visible(error)}", error=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
