"""A report that follows a suite while its runs finish, made in a process of its own at the lowest priority.

The run is asked nothing: records tell by themselves what is new. At most a tenth of one core's time goes into reports,
however long one takes.
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
from cl_semisup.results import records, snapshot
from cl_semisup.results.snapshot import SuiteSnapshot

SECONDS = 30.0  # between two reports unless asked otherwise
BUSY = 0.1  # largest share of the time spent on making reports


def follow(results: Path, chosen: SuiteSnapshot, seconds: float, go_on: Callable[[int], bool]) -> None:
    """Make the report whenever records have changed, at most every so many seconds, as long as `go_on(runs left)`."""
    seen: dict[str, int] | None = None
    while go_on(len(chosen.runs) - len(ended := _ended(results, chosen))):
        began = time.monotonic()
        if ended != seen:
            report.make(results, chosen, reload_seconds=seconds)
            seen = ended
        time.sleep(max(seconds, (time.monotonic() - began) / BUSY))


def _ended(results: Path, chosen: SuiteSnapshot) -> dict[str, int]:
    """Run id -> when its record was written, of the runs that have one."""
    found = {}
    for run in chosen.runs:
        try:
            found[run.id] = records.path_of(results, run).stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


@contextmanager
def beside(results: Path, name: str, seconds: float) -> Iterator[None]:
    """Within, another process follows the suite; a terminal's Ctrl-C does not reach it."""
    command = [sys.executable, "-m", "cl_semisup.report.live", str(results), name, str(seconds)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, process_group=0)
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def main(results: str, name: str, seconds: str) -> None:
    """Follow until the process that started this one stops it, or is gone."""
    parent = os.getppid()
    os.nice(19)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a half-written file is removed on the way out
    try:
        follow(Path(results), snapshot.load(Path(results), name), float(seconds), lambda _: os.getppid() == parent)
    except ResultsError as error:
        print(f"The report is not refreshed any more: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
