"""Trainings on this machine: a small pool of processes."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from cl_semisup import plugins
from cl_semisup.engines.held_data import HeldData
from cl_semisup.engines.pool import WorkerPool
from cl_semisup.engines.sharing import Sharing
from cl_semisup.engines.worker import LocalWorker, WorkerLost
from cl_semisup.engines.worker_main import DataWanted
from cl_semisup.execution import shared_data
from cl_semisup.execution.execute import free_memory
from cl_semisup.execution.machine import Machine, runs_that_fit
from cl_semisup.execution.training_groups import Finished, RunResults, TrainingGroup
from cl_semisup.execution.workers import Workers


def local_engine(
    workers: Workers, machine: Machine, plugin_files: Sequence[Path] = (), limit: float = math.inf
) -> "LocalEngine":
    """An engine with these workers."""
    held, sharing = HeldData(machine.data_dir), None
    if workers.measured:
        free = min(map(free_memory, workers.devices))
        sharing = Sharing(
            len(workers.devices),
            workers.most,
            lambda peak: runs_that_fit(free - held.size(), peak),  # what is held is in no worker's peak
            compare=not workers.fill,
        )
    return LocalEngine(machine, workers.most, plugin_files, limit, sharing, workers.devices, held)


class LocalEngine(WorkerPool[LocalWorker]):
    """An engine (see `scheduler.Engine`): `slots` trainings at once, each for at most `limit` seconds since its start.

    Args:
        sharing: sets `slots`, if they are to be found out; else they are `max_workers`
        devices: GPUs that workers take in turn; by default all work on the machine's device
        held: data sets that workers of a GPU read together
    """

    def __init__(
        self,
        machine: Machine,
        max_workers: int,
        plugin_files: Sequence[Path] = (),
        limit: float = math.inf,
        sharing: Sharing | None = None,
        devices: Sequence[str] = (),
        held: HeldData | None = None,
    ):
        own_plugins = plugins.user_files(plugin_files)  # all workers execute what was checked
        super().__init__(machine, limit, lambda: LocalWorker(self._next_machine(), own_plugins))
        self.devices = tuple(devices) or (machine.device,)
        self.held = held or HeldData(machine.data_dir)
        self._share_from = shared_data.worth_from(machine, max_workers, len(self.devices))
        self._tried_beside: set[str] = set()  # trainings that ran out of memory beside others, and are done again
        self.sharing, self._max_workers = sharing, max_workers

    @property
    def slots(self) -> int:
        return min(self._max_workers, self.sharing.slots) if self.sharing else self._max_workers

    def _next_machine(self) -> Machine:
        """With the device that has the fewest workers."""
        busy = Counter(worker.machine.device for worker in self._workers)
        device = min(self.devices, key=lambda device: busy[device])
        return replace(self.machine, device=device, share_from=self._share_from)

    def _send(self, worker: LocalWorker, training: TrainingGroup) -> None:
        worker.send(training)
        if self.sharing:
            self.sharing.sent(len(self._busy()) + 1, time.monotonic())

    def _poll(self, deadline: float) -> list[Finished]:
        ends = [end for worker in self._workers for end in (worker.pipe, worker.process.sentinel)]
        ready = set(wait(ends, max(0.0, deadline - time.monotonic())))
        heard = [worker for worker in self._workers if {worker.pipe, worker.process.sentinel} & ready]
        received = [self._receive(worker) for worker in heard if worker in self._workers]
        return [one for one in received if one]

    def _receive(self, worker: LocalWorker) -> Finished | None:
        """A worker's result; None if it became ready, or died and its training goes back to the queue."""
        try:
            answer = worker.receive()
        except WorkerLost as error:
            self.held.lost(worker, str(error))
            self._kill(worker)
            return self._on_worker_death(worker, str(error))
        if answer is None:
            return None
        if isinstance(answer, DataWanted):
            worker.reply(self.held.give(worker))
            return None
        if answer.results is not None:
            return None if self._wants_another_try(worker, answer.results) else self._taken(worker, answer.results)
        worker.ready, self._failed_starts = True, 0
        return None

    def _wants_another_try(self, worker: LocalWorker, results: RunResults) -> bool:
        """Has a run had too little memory because others are on the same GPU? Then it is done again, once.

        A CPU's memory is shared too, but there the system kills workers, which the pool handles.
        """
        training, device = worker.training, worker.machine.device
        beside = sum(other.machine.device == device for other in self._busy()) - 1
        failed = any(
            record["status"] == "failed" and record["reason"].startswith("out of memory") for record, _ in results
        )
        if not failed or not beside or device == "cpu" or training is None or training.id in self._tried_beside:
            return False
        self._tried_beside.add(training.id)
        self._max_workers = max(1, self.slots - len(self.devices))
        worker.training = None
        self._queue.append((training, 1))
        self._kill(worker)  # there are fewer slots now
        return True

    def _taken(self, worker: LocalWorker, results: RunResults) -> Finished | None:
        """The finished training, which may change how many workers there are."""
        if self.sharing and results:
            self.sharing.finished(results[0][0], worker.start_time)
        if worker.training:
            self.held.answered(worker, worker.training, results)
        finished = self._on_answer(worker, results)
        self._drop_unused()
        if len(self._workers) > self.slots and worker in self._workers:
            self._kill(worker)
        return finished

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        self.held.refusal = self.held.refusal or "the command stops"  # reading a data set takes longer than it has
        finished = super().cancel(seconds)
        self._drop_unused()
        return finished

    def _kill(self, worker: LocalWorker) -> None:
        super()._kill(worker)
        self._drop_unused()

    def _drop_unused(self) -> None:
        """Free data sets that no worker reads, and none will."""
        waiting = [training for training, _ in self._queue] + [one.training for one in self._busy() if one.training]
        self.held.drop_unused(self._workers, waiting)
