"""Trainings on this machine: a small pool of processes."""

import math
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from cl_semisup.engines.pool import Pool
from cl_semisup.engines.worker import Worker
from cl_semisup.errors import InputError
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, TrainingGroup


class Local(Pool[Worker]):
    """An engine (see `conduct.Engine`): `slots` trainings at once, each for at most `limit` seconds since its start.

    With `room` it begins with one, and that one's peak of memory says how many there may be, `workers` at most.
    """

    slots = 1

    def __init__(
        self,
        machine: Machine,
        workers: int,
        plugin_files: Sequence[Path] = (),
        limit: float = math.inf,
        room: Callable[[int], int] | None = None,
    ):
        super().__init__(machine, limit, lambda: Worker(machine, tuple(plugin_files)))
        self._room, self._most = room, workers
        if not room:
            self.slots = workers

    def _give(self, worker: Worker, training: TrainingGroup) -> None:
        worker.give(training)

    def _hear(self, until: float) -> list[Finished]:
        ready = wait([worker.pipe for worker in self._workers], max(0.0, until - time.monotonic()))
        heard = [self._listen(worker) for worker in list(self._workers) if worker.pipe in ready]
        finished = [one for one in heard if one]
        self._make_room(finished)
        return finished

    def _listen(self, worker: Worker) -> Finished | None:
        """A worker's result; None when it is ready, or died and its training goes back to the queue."""
        message = worker.hear()
        if isinstance(message, tuple):
            training, worker.training = worker.training, None
            assert training is not None  # a worker answers what it was given
            return training, message
        if isinstance(message, InputError):
            raise message
        if message is not None:
            worker.ready, self._stillborn = True, 0
            return None
        self._drop(worker)
        return self._mourn(worker, worker.death())

    def _make_room(self, finished: list[Finished]) -> None:
        """Use what the first trained run tells of the memory that one takes."""
        for _, ((record, _), *_) in finished:
            if self._room and record["status"] != "failed" and record["run"]["epochs"]:
                self.slots = max(1, min(self._most, self._room(int(record["cost"]["peak_memory_bytes"]))))
                self._room = None
