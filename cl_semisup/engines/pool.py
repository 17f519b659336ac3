"""What engines with several workers share: the queue, the time limit, and the handling of workers that die.

A worker takes seconds to start, so each executes many trainings; one that dies or takes too long is replaced. A worker
that has executed a plug-in of a user's own is replaced too: such code may change what the process computes later
(default dtype, grad mode, patched functions, seeds, threads). Its file is imported only for a training that uses it.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from cl_semisup.errors import EngineError
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, RunResults, TrainingGroup
from cl_semisup.results import protocol

MAX_ATTEMPTS = 5  # workers that may die over one training in a row without saving a new state; then its runs failed
MAX_FAILED_STARTS = 10  # workers that may die in a row before they are ready for a training


class WorkerHandle(Protocol):
    """The command's side of a worker.

    `made_progress` says whether its training got on since it was sent, or a death was not the training's fault.
    `ask_to_stop` lets it save its training's state and exit; `kill` does not.
    """

    ready: bool = False  # it has imported all it needs
    training: TrainingGroup | None = None  # what it executes
    attempt: int = 0  # workers in a row that have had the training without progress, this one included
    start_time: float = 0.0  # of the training

    def made_progress(self) -> bool: ...
    def ask_to_stop(self) -> None: ...
    def kill(self) -> None: ...


W = TypeVar("W", bound=WorkerHandle)


class WorkerPool(ABC, Generic[W]):
    """An engine (see `scheduler.Engine`); subclasses start workers, send them trainings and receive their results.

    Args:
        machine: its device is named in records of failures
        limit: seconds that a training may take since its last start
        start_worker: returns a new worker
    """

    def __init__(self, machine: Machine, limit: float, start_worker: Callable[[], W]):
        self.machine, self.limit, self._start_worker = machine, limit, start_worker
        self._queue: deque[tuple[TrainingGroup, int]] = deque()  # with the number of the attempt
        self._workers: list[W] = []
        self._failed_starts = 0
        self._earlier: dict[str, RunResults] = {}  # of trainings whose last worker could not do all of their runs

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many workers there may be."""

    @abstractmethod
    def _send(self, worker: W, training: TrainingGroup) -> None:
        """Make an idle worker begin a training."""

    @abstractmethod
    def _poll(self, deadline: float) -> list[Finished]:
        """Wait until a worker sends a message or exits; what has finished, or [] at the deadline."""

    def submit(self, training: TrainingGroup) -> None:
        """Queue a training; it starts as soon as a worker is free."""
        self._queue.append((training, 1))
        self._assign()

    def results(self, seconds: float) -> list[Finished]:
        """Wait for a training to finish, at most so many seconds. If its workers keep dying, it finishes as failed."""
        deadline = time.monotonic() + seconds
        while True:
            self._assign()
            finished = self._poll(min([deadline, *(worker.start_time + self.limit for worker in self._busy())]))
            for worker in self._busy():
                if worker.start_time + self.limit <= time.monotonic():
                    self._kill(worker)  # it may hang
                    finished.append(self._failure(worker, f"took longer than the limit of {self.limit:g} s"))
            if finished or time.monotonic() >= deadline:
                return finished

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        """Stop all workers; the last saved state of an unfinished training stays.

        Given seconds, workers save their states first; trainings that finish meanwhile are returned.
        """
        deadline, finished = time.monotonic() + seconds, []
        for worker in self._busy() if seconds else []:
            worker.ask_to_stop()
            worker.attempt = 0  # its exit is no failure
        while self._busy() and time.monotonic() < deadline:
            finished += self._poll(deadline)
        for worker in list(self._workers):
            self._kill(worker)
        self._queue.clear()
        return finished

    def _busy(self) -> list[W]:
        return [worker for worker in self._workers if worker.training]

    def _assign(self) -> None:
        """Send trainings to idle workers, and start as many workers as the queue can use."""
        for worker in self._workers:
            if self._queue and worker.ready and worker.training is None:
                training, attempt = self._queue.popleft()
                self._send(worker, replace(training, runs=training.runs[len(self._earlier.get(training.id, ())) :]))
                worker.training, worker.attempt, worker.start_time = training, attempt, time.monotonic()
        starting, slots = sum(not worker.ready for worker in self._workers), self.slots
        while starting < len(self._queue) and len(self._workers) < slots:
            self._workers.append(self._start_worker())
            starting += 1

    def _on_worker_death(self, worker: W, cause: str) -> Finished | None:
        """Queue the dead worker's training again; a failure if it has been tried too often without progress."""
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                rule = f"no worker process can be started: {MAX_FAILED_STARTS} died"
                raise EngineError(*f"{rule}, the last by {cause.rstrip('.')}.".splitlines())
        if worker.training is None:
            return None
        attempt = 1 if worker.made_progress() else worker.attempt + 1
        if attempt <= MAX_ATTEMPTS:
            self._queue.append((worker.training, attempt))
            return None
        line = cause.splitlines()[0]  # Ray's has many lines
        return self._failure(worker, f"the worker process died {MAX_ATTEMPTS} times, the last time by {line}")

    def _on_answer(self, worker: W, results: RunResults) -> Finished | None:
        """The training that the worker has finished; the worker is replaced if it has executed a user's own code.

        None if runs are left, since a run before them cost the worker its GPU: they go back to the queue.
        """
        training, worker.training = worker.training, None
        assert training is not None  # a worker only answers a training
        if protocol.uses_users_own(training.runs):  # all of them: their probes may differ
            self._kill(worker)
        results = (*self._earlier.pop(training.id, ()), *results)
        if len(results) < len(training.runs):
            self._earlier[training.id] = results
            self._queue.append((training, 1))
            return None
        return training, results

    def _failure(self, worker: W, reason: str) -> Finished:
        from cl_semisup.execution.execute import failed_results

        training = worker.training
        assert training is not None  # only a training fails
        earlier = self._earlier.pop(training.id, ())
        left = replace(training, runs=training.runs[len(earlier) :])
        return training, (*earlier, *failed_results(left, self.machine, reason))

    def _kill(self, worker: W) -> None:
        worker.kill()
        self._workers.remove(worker)
