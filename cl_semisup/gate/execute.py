"""Runs of the outcome tier, one thread each wherever they execute, so that every machine's cores give the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from cl_semisup.execution.execute import Executor
from cl_semisup.execution.local import Local
from cl_semisup.execution.machine import Machine
from cl_semisup.gate.outcome import Ended, Execute, ended
from cl_semisup.run import Run


def here(data_dir: str) -> Execute:
    """Executes runs one after the other in this process."""
    executor = Executor(Machine("cpu", data_dir))

    def execute(runs: Sequence[Run]) -> Mapping[str, Ended]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return {run.id: ended(*executor(run)) for run in runs}
        finally:
            torch.set_num_threads(threads)

    return execute


def workers(data_dir: str, count: int, plugin_files: Sequence[Path]) -> Execute:
    """Executes runs in `count` worker processes, which end with the call, however it ends."""

    def execute(runs: Sequence[Run]) -> Mapping[str, Ended]:
        engine = Local(Machine("cpu", data_dir), count, plugin_files)
        try:
            for run in runs:
                engine.submit(run)
            finished = [engine.next() for _ in runs]
        finally:
            engine.cancel()
        return {run.id: ended(record, curves) for run, record, curves in finished}

    return execute
