"""What engines of many workers share: the queue, the time limit, and what becomes of a dead worker's training.

A worker takes long to be ready, so each serves many trainings; one that dies or takes too long is replaced.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from cl_semisup.errors import EngineError
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, TrainingGroup

ATTEMPTS = 5  # workers that may die in a row over one training, its saved state unmoved, until its runs have failed
STARTS = 10  # workers that may die in a row before they are ready for a training


class Member(Protocol):
    """The command's end of a worker, which is `ready` once it has imported all it needs.

    Its death is `blameless` if its training got on meanwhile, or something else is to blame. `leave` asks it to save
    its training's state and stop; `end` kills it.
    """

    ready: bool = False
    training: TrainingGroup | None = None  # what it is busy with
    attempt: int = 0  # so many workers have had the training in a row, with this one
    began: float = 0.0

    def blameless(self) -> bool: ...
    def leave(self) -> None: ...
    def end(self) -> None: ...


M = TypeVar("M", bound=Member)


class Pool(ABC, Generic[M]):
    """An engine (see `conduct.Engine`) but for how its workers are started, given work and heard.

    A training takes at most `limit` seconds since its last start. Records of failures name the device of `machine`.
    """

    def __init__(self, machine: Machine, limit: float, start: Callable[[], M]):
        self.machine, self.limit, self._start = machine, limit, start
        self._waiting: deque[tuple[TrainingGroup, int]] = deque()
        self._workers: list[M] = []
        self._stillborn = 0

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many workers there may be."""

    @abstractmethod
    def _give(self, worker: M, training: TrainingGroup) -> None:
        """Have an idle worker begin a training."""

    @abstractmethod
    def _hear(self, until: float) -> list[Finished]:
        """What finishes, once a worker has something to say, be it that it is gone; none if none has by then."""

    def submit(self, training: TrainingGroup) -> None:
        """Queue a training; it starts as soon as a worker is free."""
        self._waiting.append((training, 1))
        self._assign()

    def results(self, seconds: float) -> list[Finished]:
        """Those that finish, once one does; none if none has by then. Workers that keep dying are failures too."""
        end = time.monotonic() + seconds
        while True:
            self._assign()
            finished = self._hear(min([end, *(worker.began + self.limit for worker in self._busy())]))
            for worker in self._busy():
                if worker.began + self.limit <= time.monotonic():
                    self._drop(worker)  # it may hang
                    finished.append(self._failed(worker, f"took longer than the limit of {self.limit:g} s"))
            if finished or time.monotonic() >= end:
                return finished

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        """Stop all workers; of an unfinished training the last saved state stays.

        Given seconds, they may save their states first, and what finishes meanwhile is given.
        """
        end, finished = time.monotonic() + seconds, []
        for worker in self._busy() if seconds else []:
            worker.leave()
            worker.attempt = 0  # should it be gone before it can say anything, that is no failure
        while self._busy() and time.monotonic() < end:
            finished += self._hear(end)
        for worker in list(self._workers):
            self._drop(worker)
        self._waiting.clear()
        return finished

    def _busy(self) -> list[M]:
        return [worker for worker in self._workers if worker.training]

    def _assign(self) -> None:
        """Give trainings to idle workers, and start as many workers as those that wait can use."""
        for worker in self._workers:
            if self._waiting and worker.ready and worker.training is None:
                training, attempt = self._waiting.popleft()
                self._give(worker, training)
                worker.training, worker.attempt, worker.began = training, attempt, time.monotonic()
        coming, slots = sum(not worker.ready for worker in self._workers), self.slots
        while coming < len(self._waiting) and len(self._workers) < slots:
            self._workers.append(self._start())
            coming += 1

    def _mourn(self, worker: M, death: str) -> Finished | None:
        """A worker has died: its training is tried again, unless that never gets anywhere."""
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS:
                raise EngineError(f"no worker process can be started: {STARTS} died, the last by {death.rstrip('.')}.")
        if worker.training is None:
            return None
        attempt = 1 if worker.blameless() else worker.attempt + 1
        if attempt <= ATTEMPTS:
            self._waiting.append((worker.training, attempt))
            return None
        cause = death.splitlines()[0]  # Ray has much to say; a reason is one line
        return self._failed(worker, f"the worker process died {ATTEMPTS} times, the last time by {cause}")

    def _failed(self, worker: M, reason: str) -> Finished:
        from cl_semisup.execution.execute import failed_results

        assert worker.training is not None  # only a training fails
        return worker.training, failed_results(worker.training, self.machine, reason)

    def _drop(self, worker: M) -> None:
        worker.end()
        self._workers.remove(worker)
