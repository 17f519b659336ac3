"""Executes runs of the outcome tier with one thread each, so that results do not depend on the number of cores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, group
from cl_semisup.gate.outcome import Execute, RunSummary, summarize
from cl_semisup.suite.run import Run

POLL_SECONDS = 60.0  # longest wait for one result before asking again; does not affect results


def in_process(data_dir: str) -> Execute:
    """Executes runs one after the other in this process."""
    executor = Executor(Machine("cpu", data_dir))

    def execute(runs: Sequence[Run]) -> Mapping[str, RunSummary]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _summaries((training, executor.run_group(training)) for training in group(runs))
        finally:
            torch.set_num_threads(threads)

    return execute


def in_workers(data_dir: str, count: int, plugin_files: Sequence[Path]) -> Execute:
    """Executes runs in `count` worker processes, which always end with the call."""

    def execute(runs: Sequence[Run]) -> Mapping[str, RunSummary]:
        engine = LocalEngine(Machine("cpu", data_dir), count, plugin_files)
        try:
            trainings = group(runs)
            for training in trainings:
                engine.submit(training)
            finished: list[Finished] = []
            while len(finished) < len(trainings):
                finished += engine.results(POLL_SECONDS)
        finally:
            engine.cancel()
        return _summaries(finished)

    return execute


def _summaries(finished: Iterable[Finished]) -> dict[str, RunSummary]:
    """Run id -> summary."""
    return {
        run.id: summarize(*results)
        for training, all_results in finished
        for run, results in zip(training.runs, all_results, strict=True)
    }
