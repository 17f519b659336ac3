"""Trainings on this machine: a small pool of long-lived workers. A process takes long to be ready, so each
serves many; one that dies or takes too long is replaced, and the training of a dead one is tried again."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from cl_semisup.errors import EngineError, InputError
from cl_semisup.execution.execute import failures
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainings import Finished, Training
from cl_semisup.execution.worker import Worker

ATTEMPTS = 5  # workers that may die in a row over one training, its state on disk unmoved, until its runs have failed
STARTS = 10  # workers that may die in a row before they are ready for a run


class Local:
    """An engine (see `conduct.Engine`): `slots` trainings at once, each for at most `limit` seconds since its start.

    With `room` it begins with one, and that one's peak of memory says how many there may be, `workers` at most.
    """

    def __init__(
        self,
        machine: Machine,
        workers: int,
        plugin_files: Sequence[Path] = (),
        limit: float = math.inf,
        room: Callable[[int], int] | None = None,
    ):
        self.machine, self.slots, self.plugin_files, self.limit = machine, workers, tuple(plugin_files), limit
        self._room, self._most = room, workers
        if room:
            self.slots = 1
        self._waiting: deque[tuple[Training, int]] = deque()
        self._workers: list[Worker] = []
        self._stillborn = 0

    def submit(self, training: Training) -> None:
        """Queue a training; it starts as soon as a worker is free."""
        self._waiting.append((training, 1))
        self._assign()

    def results(self, seconds: float) -> list[Finished]:
        """Those that finish, once one does; none if none has by then. Workers that keep dying are failures too."""
        end = time.monotonic() + seconds
        while True:
            self._assign()
            patience = min([end, *(worker.began + self.limit for worker in self._busy())]) - time.monotonic()
            heard = [self._hear(worker) for worker in self._heard(max(0.0, patience))]
            late = [worker for worker in self._busy() if worker.began + self.limit <= time.monotonic()]
            finished = [one for one in heard if one] + [self._cut(worker) for worker in late]
            self._make_room(finished)
            if finished or time.monotonic() >= end:
                return finished

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        """Stop all workers; of an unfinished training the last state on disk stays.

        Given seconds, they may save their states first, and what finishes meanwhile is given.
        """
        end, finished = time.monotonic() + seconds, []
        leaving = self._busy() if seconds else []
        for worker in leaving:
            worker.process.terminate()
        while leaving and time.monotonic() < end:
            for worker in self._heard(end - time.monotonic(), leaving):
                message = worker.hear()
                if isinstance(message, tuple):
                    assert worker.training is not None  # it is busy
                    finished.append((worker.training, message))
                leaving.remove(worker)
        for worker in list(self._workers):
            self._drop(worker)
        self._waiting.clear()
        return finished

    def _make_room(self, finished: list[Finished]) -> None:
        """Use what the first trained run tells of the memory that one takes."""
        for _, ((record, _), *_) in finished:
            if self._room and record["status"] != "failed" and record["run"]["epochs"]:
                self.slots = max(1, min(self._most, self._room(int(record["cost"]["peak_memory_bytes"]))))
                self._room = None

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.training]

    def _assign(self) -> None:
        """Give trainings to idle workers, and start as many workers as those that wait can use."""
        for worker in self._workers:
            if self._waiting and worker.ready and worker.training is None:
                worker.give(*self._waiting.popleft())
        coming = sum(not worker.ready for worker in self._workers)
        while coming < len(self._waiting) and len(self._workers) < self.slots:
            self._workers.append(Worker(self.machine, self.plugin_files))
            coming += 1

    def _heard(self, seconds: float, among: Sequence[Worker] | None = None) -> list[Worker]:
        """The workers that have something to say, be it that they are gone."""
        workers = self._workers if among is None else among
        ready = wait([worker.pipe for worker in workers], seconds)
        return [worker for worker in workers if worker.pipe in ready]

    def _hear(self, worker: Worker) -> Finished | None:
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
        return self._mourn(worker)

    def _mourn(self, worker: Worker) -> Finished | None:
        """A worker has died: its training is tried again, unless that never gets anywhere."""
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS:
                raise EngineError(f"no worker process can be started: {STARTS} died, the last by {worker.death()}.")
        if worker.training is None:
            return None
        attempt = 1 if worker.progressed() else worker.attempt + 1
        if attempt <= ATTEMPTS:
            self._waiting.append((worker.training, attempt))
            return None
        reason = f"the worker process died {ATTEMPTS} times, the last time by {worker.death()}"
        return worker.training, failures(worker.training, self.machine, reason)

    def _cut(self, worker: Worker) -> Finished:
        """Put an end to a training that takes too long, and to its worker, which may hang."""
        self._drop(worker)
        assert worker.training is not None  # only a busy worker is late
        reason = f"took longer than the limit of {self.limit:g} s"
        return worker.training, failures(worker.training, self.machine, reason)

    def _drop(self, worker: Worker) -> None:
        worker.end()
        self._workers.remove(worker)
