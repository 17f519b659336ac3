"""The rules of a worker pool, with fake workers and no processes."""

import math
from collections.abc import Callable

import pytest

from cl_semisup.engines import pool
from cl_semisup.engines.pool import WorkerHandle, WorkerPool
from cl_semisup.errors import EngineError
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, TrainingGroup, single_run
from tests.helpers import records as record_maker

CAUSE = "signal SIGKILL.\nand much more of it."


class FakeWorker(WorkerHandle):
    """A worker that never finishes: it hangs, or dies before or after it is ready."""

    def __init__(self, dies: bool = False, progresses: bool = False, starts: bool = True):
        self.dies, self.progresses, self.starts = dies, progresses, starts
        self.stop_requested = self.killed = False

    def made_progress(self) -> bool:
        return self.progresses

    def ask_to_stop(self) -> None:
        self.stop_requested = True

    def kill(self) -> None:
        self.killed = True


class FakePool(WorkerPool[FakeWorker]):
    """One worker at a time, which answers at once; `workers` are all that were started."""

    slots = 1

    def __init__(self, make_worker: Callable[[], FakeWorker], limit: float = math.inf):
        super().__init__(Machine("cpu", "data"), limit, self._start)
        self.make_worker, self.workers = make_worker, list[FakeWorker]()

    def _start(self) -> FakeWorker:
        self.workers.append(self.make_worker())
        return self.workers[-1]

    def _send(self, worker: FakeWorker, training: TrainingGroup) -> None:
        pass

    def _poll(self, deadline: float) -> list[Finished]:
        received = [self._receive(worker) for worker in list(self._workers)]
        return [finished for finished in received if finished]

    def _receive(self, worker: FakeWorker) -> Finished | None:
        if worker.starts and not worker.ready:
            worker.ready = True
        elif worker.dies or worker.stop_requested:
            self._kill(worker)
            return self._on_worker_death(worker, CAUSE)
        return None


@pytest.fixture
def training() -> TrainingGroup:
    return single_run(record_maker.run(epochs=5))


def reason(finished: list[Finished]) -> str:
    ((_, ((record, _),)),) = finished
    assert record["status"] == "failed"
    return str(record["reason"])


def test_a_training_that_kills_every_worker_has_failed_in_one_line(training: TrainingGroup) -> None:
    fake = FakePool(lambda: FakeWorker(dies=True))
    fake.submit(training)
    assert reason(fake.results(60)) == "the worker process died 5 times, the last time by signal SIGKILL."
    assert len(fake.workers) == pool.MAX_ATTEMPTS
    assert all(worker.killed for worker in fake.workers)


def test_deaths_after_progress_are_not_counted(training: TrainingGroup) -> None:
    deaths = 2 * pool.MAX_ATTEMPTS
    fake = FakePool(lambda: FakeWorker(dies=True, progresses=len(fake.workers) < deaths))
    fake.submit(training)
    fake.results(60)
    assert len(fake.workers) == deaths + pool.MAX_ATTEMPTS


def test_workers_that_never_start_stop_the_command_with_the_whole_cause(training: TrainingGroup) -> None:
    fake = FakePool(lambda: FakeWorker(dies=True, starts=False))
    fake.submit(training)
    rule = "no worker process can be started: 10 died, the last by signal SIGKILL.\nand much more of it."
    with pytest.raises(EngineError) as error:
        fake.results(60)
    assert str(error.value) == rule


def test_a_training_that_takes_too_long_has_failed_and_its_worker_is_killed(training: TrainingGroup) -> None:
    fake = FakePool(FakeWorker, limit=0.01)
    fake.submit(training)
    assert reason(fake.results(60)) == "took longer than the limit of 0.01 s"
    assert fake.workers[0].killed


def test_a_worker_that_stops_when_asked_has_not_failed_even_at_the_last_attempt(training: TrainingGroup) -> None:
    fake = FakePool(lambda: FakeWorker(dies=len(fake.workers) < pool.MAX_ATTEMPTS - 1))
    fake.submit(training)
    for _ in range(2 * pool.MAX_ATTEMPTS):  # each worker becomes ready, then it dies
        assert fake.results(0) == []
    assert fake._busy()[0].attempt == pool.MAX_ATTEMPTS
    assert fake.cancel(60) == []
    assert fake.workers[-1].killed
    assert fake.results(0) == []
    assert len(fake.workers) == pool.MAX_ATTEMPTS  # no worker was started for it again
