"""Runs of the outcome tier, one thread each wherever they execute, so that every machine's cores give the same."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from cl_semisup.engines.local import LocalEngine
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, group
from cl_semisup.gate.outcome import Ended, Execute, ended
from cl_semisup.suite.run import Run

PATIENCE = 60.0  # seconds between two looks, of no consequence


def here(data_dir: str) -> Execute:
    """Executes runs one after the other in this process."""
    executor = Executor(Machine("cpu", data_dir))

    def execute(runs: Sequence[Run]) -> Mapping[str, Ended]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _by_run((training, executor.run_group(training)) for training in group(runs))
        finally:
            torch.set_num_threads(threads)

    return execute


def workers(data_dir: str, count: int, plugin_files: Sequence[Path]) -> Execute:
    """Executes runs in `count` worker processes, which end with the call, however it ends."""

    def execute(runs: Sequence[Run]) -> Mapping[str, Ended]:
        engine = LocalEngine(Machine("cpu", data_dir), count, plugin_files)
        try:
            trainings = group(runs)
            for training in trainings:
                engine.submit(training)
            finished: list[Finished] = []
            while len(finished) < len(trainings):
                finished += engine.results(PATIENCE)
        finally:
            engine.cancel()
        return _by_run(finished)

    return execute


def _by_run(finished: Iterable[Finished]) -> dict[str, Ended]:
    return {
        run.id: ended(*answer)
        for training, answers in finished
        for run, answer in zip(training.runs, answers, strict=True)
    }
