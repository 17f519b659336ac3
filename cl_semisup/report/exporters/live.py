"""Finished runs go to TensorBoard, W&B or MLflow while a suite runs: `run SUITE --log-to PROGRAM`.

A process of its own reads the records, so a program that is slow or fails costs no run anything. A run is logged,
whole, within seconds of its end. It is offline as `export` is; WANDB_MODE=online and MLFLOW_TRACKING_URI, set by the
user, are respected.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError, ResultsError, described
from cl_semisup.report import exporters
from cl_semisup.results import records, snapshot
from cl_semisup.system import stamps
from cl_semisup.text import degrade_streams, show, visible

SECONDS = 2.0  # between two looks at the records


def follow(results: Path, name: str, exporter: Any, folder: Path, since: int, go_on: Callable[[], bool]) -> int:
    """Log every run whose record is written after `since` (ns), until `go_on` says no; then once more. Their number."""
    suite, logged, count = snapshot.load(results, name), dict[str, int](), 0
    while True:
        last = not go_on()
        suite = snapshot.load(results, name) if suite.search else suite  # its next round has other runs
        now = {run.id: records.mtime(records.path_of(results, run)) for run in suite.runs}
        new = {run_id: time for run_id, time in now.items() if time and time > since and time != logged.get(run_id)}
        if new:
            count += exporter.write(exporters.read(results, [run for run in suite.runs if run.id in new]), folder, name)
            logged |= new
        if last:
            return count


@contextmanager
def in_background(results: Path, name: str, to: str) -> Iterator[None]:
    """Inside this context another process logs the runs that finish; at its end it logs the last ones and leaves."""
    since = time.time_ns() - stamps.TICK_NS
    command = [sys.executable, "-m", "cl_semisup.report.exporters.live", str(results), name, to, str(since)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.PIPE, process_group=0)
    try:
        yield
    finally:
        child.communicate()


def main(results: str, name: str, to: str, since: str) -> None:
    """Log until standard input closes, which happens too if the process that started this one is killed."""
    degrade_streams()
    closed = threading.Event()
    threading.Thread(target=_wait_for_end, args=[closed], daemon=True).start()
    try:
        folder, exporter = Path(results) / name / to, exporters.load(to)
        exporters.prepare(exporter, Path(results), folder)
        count = follow(Path(results), name, exporter, folder, int(since), lambda: not closed.wait(SECONDS))
        show(f"{count} run(s) logged for {to} in {visible(folder)}.")
    except (InputError, ResultsError) as error:
        show(f"--log-to {to}: {visible(error)}", error=True)
    except Exception as error:  # of the program that takes the runs
        cause = described(error)
        show(f"--log-to {to}: runs are not logged any more, and go on: {visible(cause)[:500]}", error=True)


def _wait_for_end(closed: threading.Event) -> None:
    sys.stdin.read()
    closed.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
