"""Runs of the outcome tier, one thread each wherever they execute, so that every machine's cores give the same."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from cl_semisup import plugins
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.gate.outcome import Ended, Execute, ended
from cl_semisup.run import Run

_executor: Executor | None = None  # of a worker process


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
    """Executes runs in `count` processes, one or more: a gate that cannot finish fails, so nothing is tried again."""

    def execute(runs: Sequence[Run]) -> Mapping[str, Ended]:
        start = (data_dir, tuple(plugin_files))
        with ProcessPoolExecutor(count, get_context("spawn"), _begin, start) as pool:
            return dict(zip((run.id for run in runs), pool.map(_one, runs, chunksize=4), strict=True))

    return execute


def _begin(data_dir: str, plugin_files: Sequence[Path]) -> None:
    global _executor
    torch.set_num_threads(1)
    for path in plugin_files:
        plugins.add(path)
    _executor = Executor(Machine("cpu", data_dir))


def _one(run: Run) -> Ended:
    assert _executor is not None  # `_begin` ran first
    return ended(*_executor(run))
