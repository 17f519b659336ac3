"""The process that runs cells of a submission again; plug-ins of the sender's own are executed here and nowhere else.

Limits are the system's: memory, processor seconds, size of a file. They bound an accident and a careless plug-in. They
are no jail: code that wants to do harm can, so `--run-code` belongs on a machine that may be lost.
docs/submissions.md
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from cl_semisup import plugins
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine, default_threads
from cl_semisup.execution.training_groups import group, single_run
from cl_semisup.results import records
from cl_semisup.submission import first_points
from cl_semisup.submission.archive import SUITE
from cl_semisup.suite import suite as suites
from cl_semisup.text import degrade_streams, show, visible

MAX_FILE_BYTES = 10**9


def limit(seconds: int, memory: int) -> None:
    """Limits of this process and its children."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for kind, value in (("CPU", seconds), ("AS", memory), ("FSIZE", MAX_FILE_BYTES), ("CORE", 0)):
        name = getattr(resource, f"RLIMIT_{kind}")
        hard = resource.getrlimit(name)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (most, most))


def limit_first_points() -> None:
    """The process ends when first points have taken their processor time; those that are ready are on disk."""
    if hasattr(signal, "setitimer"):  # Windows has none
        signal.signal(signal.SIGPROF, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_PROF, first_points.SECONDS)


def main(folder: str, again: str, seconds: str, memory: str, data_dir: str, *own: str) -> None:
    """On its input are the ids of the runs to do again, and of those whose first steps are done."""
    degrade_streams()
    limit(int(seconds), int(memory))
    torch.set_num_threads(default_threads("cpu"))  # as in a worker: the number moves the last digits
    whole, first = json.load(sys.stdin)
    try:
        for path in own:
            plugins.add(Path(path))
        suite = suites.read(Path(folder) / SUITE, data_dir or None)
        runs = {run.id: run for run in suite.runs}
        executor = Executor(Machine("cpu", suite.data_dir))
        for training in group(runs[run_id] for run_id in whole):
            for run, (record, curves) in zip(training.runs, executor.run_group(training), strict=True):
                records.write(Path(again), run, record, curves)
        limit_first_points()
        first_points.compute(map(single_run, [runs[run_id] for run_id in first]), suite.data_dir, Path(again))
    except (InputError, ResultsError) as error:
        show(visible(error), error=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
