"""The process that runs cells of a submission again; plug-ins of the sender's own are executed here and nowhere else.

Limits are the system's: memory, processor seconds, size of a file. They bound an accident and a careless plug-in. They
are no jail: code that wants to do harm can, so `--run-code` belongs on a machine that may be lost.
docs/submissions.md
"""

import sys
from pathlib import Path

from cl_semisup import plugins
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import group
from cl_semisup.results import records
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


def main(folder: str, again: str, seconds: str, memory: str, data_dir: str, ids: str, *own: str) -> None:
    degrade_streams()
    limit(int(seconds), int(memory))
    try:
        for path in own:
            plugins.add(Path(path))
        suite = suites.read(Path(folder) / SUITE, data_dir or None)
        chosen = [run for run in suite.runs if run.id in ids.split(",")]
        executor = Executor(Machine("cpu", suite.data_dir))
        for training in group(chosen):
            for run, (record, curves) in zip(training.runs, executor.run_group(training), strict=True):
                records.write(Path(again), run, record, curves)
    except (InputError, ResultsError) as error:
        show(visible(error), error=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
