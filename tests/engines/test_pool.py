"""The rules of a pool, without processes: its workers say what the test has them say."""

import math
from collections.abc import Callable

import pytest

from cl_semisup.engines import pool
from cl_semisup.engines.pool import Member, Pool
from cl_semisup.errors import EngineError
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, TrainingGroup, single_run
from tests.helpers import records as record_maker

DEATH = "signal SIGKILL.\nand much more of it."


class Played(Member):
    """A worker that never finishes: it hangs, or dies before or after it is ready."""

    def __init__(self, dies: bool = False, progresses: bool = False, starts: bool = True):
        self.dies, self.progresses, self.starts, self.asked, self.ended = dies, progresses, starts, False, False

    def blameless(self) -> bool:
        return self.progresses

    def leave(self) -> None:
        self.asked = True

    def end(self) -> None:
        self.ended = True


class Stage(Pool[Played]):
    """One worker at a time, who answers at once."""

    slots = 1

    def __init__(self, hire: Callable[[], Played], limit: float = math.inf):
        super().__init__(Machine("cpu", "data"), limit, self._engage)
        self.hire, self.hired = hire, list[Played]()

    def _engage(self) -> Played:
        self.hired.append(self.hire())
        return self.hired[-1]

    def _give(self, worker: Played, training: TrainingGroup) -> None:
        pass

    def _hear(self, until: float) -> list[Finished]:
        heard = [self._listen(worker) for worker in list(self._workers)]
        return [finished for finished in heard if finished]

    def _listen(self, worker: Played) -> Finished | None:
        if worker.starts and not worker.ready:
            worker.ready = True
        elif worker.dies or worker.asked:
            self._drop(worker)
            return self._mourn(worker, DEATH)
        return None


@pytest.fixture
def training() -> TrainingGroup:
    return single_run(record_maker.run(epochs=5))


def reason(finished: list[Finished]) -> str:
    ((_, ((record, _),)),) = finished
    assert record["status"] == "failed"
    return str(record["reason"])


def test_a_training_that_kills_every_worker_has_failed_in_one_line(training: TrainingGroup) -> None:
    stage = Stage(lambda: Played(dies=True))
    stage.submit(training)
    assert reason(stage.results(60)) == "the worker process died 5 times, the last time by signal SIGKILL."
    assert len(stage.hired) == pool.MAX_ATTEMPTS
    assert all(worker.ended for worker in stage.hired)


def test_deaths_that_are_not_the_trainings_fault_are_not_counted(training: TrainingGroup) -> None:
    blameless = 2 * pool.MAX_ATTEMPTS
    stage = Stage(lambda: Played(dies=True, progresses=len(stage.hired) < blameless))
    stage.submit(training)
    stage.results(60)
    assert len(stage.hired) == blameless + pool.MAX_ATTEMPTS


def test_workers_that_never_start_stop_the_command_with_all_that_is_known(training: TrainingGroup) -> None:
    stage = Stage(lambda: Played(dies=True, starts=False))
    stage.submit(training)
    rule = "no worker process can be started: 10 died, the last by signal SIGKILL.\nand much more of it."
    with pytest.raises(EngineError) as error:
        stage.results(60)
    assert str(error.value) == rule


def test_a_training_that_takes_too_long_has_failed_and_its_worker_is_ended(training: TrainingGroup) -> None:
    stage = Stage(Played, limit=0.01)
    stage.submit(training)
    assert reason(stage.results(60)) == "took longer than the limit of 0.01 s"
    assert stage.hired[0].ended


def test_who_leaves_when_asked_has_not_failed_even_at_the_last_attempt(training: TrainingGroup) -> None:
    stage = Stage(lambda: Played(dies=len(stage.hired) < pool.MAX_ATTEMPTS - 1))
    stage.submit(training)
    for _ in range(2 * pool.MAX_ATTEMPTS):  # a worker says that it is ready, then it dies
        assert stage.results(0) == []
    assert stage._busy()[0].attempt == pool.MAX_ATTEMPTS
    assert stage.cancel(60) == []
    assert stage.hired[-1].ended
    assert stage.results(0) == []
    assert len(stage.hired) == pool.MAX_ATTEMPTS  # nobody was hired for it again
