"""A suite's runs through an engine: finished ones are skipped, missing ones are claimed, executed and written."""

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cl_semisup.errors import ResultsError
from cl_semisup.execution import stop, training_groups
from cl_semisup.execution.training_groups import Finished, TrainingGroup
from cl_semisup.results import protocol, records
from cl_semisup.results.data_hashes import DataHashes
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.scheduling import cleanup
from cl_semisup.scheduling.budget import Budget
from cl_semisup.scheduling.claims import Claims
from cl_semisup.scheduling.order import ExpectedSeconds, longest_first
from cl_semisup.scheduling.progress import Progress
from cl_semisup.suite.run import Run

POLL_SECONDS = 0.5  # between two checks for a signal, and for runs of other commands on the same folder
WAIT_TIMEOUT_SECONDS = 90.0  # without progress; runs that are still claimed then are really being worked on
GRACE_SECONDS = 8.0  # for workers to save their states once the command is stopped; schedulers give 10 and more


class Engine(Protocol):
    """Executes trainings, `slots` at once: on this machine's workers, or on a cluster.

    `results` waits for a training to finish, at most the given seconds. `cancel` stops all trainings. If it is given
    seconds, workers first save the states of unfinished trainings, and it returns those that finish meanwhile.
    """

    @property
    def slots(self) -> int: ...
    def submit(self, training: TrainingGroup) -> None: ...
    def results(self, seconds: float) -> list[Finished]: ...
    def cancel(self, seconds: float = 0.0) -> list[Finished]: ...


@dataclass
class RunCounts:
    """How a command's runs ended: their statuses, and how many of its runs other commands did meanwhile."""

    statuses: Counter[str] = field(default_factory=Counter)
    done_elsewhere: int = 0

    @property
    def failed(self) -> int:
        return self.statuses["failed"]

    @property
    def done(self) -> int:
        return self.statuses.total() + self.done_elsewhere


def missing(results: Path, runs: Iterable[Run], redo: str = "none", data_dir: str = "") -> list[Run]:
    """Runs without a record, and those whose record is to be redone: none, failed, stale or all.

    Records of other data than `data_dir` holds now are stale. ResultsError where a folder of records is a link.
    """
    data = DataHashes(data_dir)

    def redone(record: records.Record) -> bool:
        return record["status"] == "failed" if redo == "failed" else bool(protocol.stale_parts(record, data))

    found = records.look_up(results, runs)
    if redo in ("none", "all"):
        return [run for run, where in found if redo == "all" or not where]
    return [run for run, where in found if not where or redone(records.read_found(where))]


def describe_failed(results: Path, suite: SuiteSnapshot) -> str:
    """A line on the runs that have failed, with the command that does them again; "" if none has."""
    if not (count := len(records.failures(results, suite.runs))):
        return ""
    return f"{count} of the runs failed. Do them again: `{suite.command(results)} --redo failed`."


def describe_stale(results: Path, suite: SuiteSnapshot) -> str:
    """A line on the records that are stale, with the command that makes them again; "" if none is."""
    data, parts, count = DataHashes(suite.data_folder), Counter[str](), 0
    for _, where in records.look_up(results, suite.runs):
        with suppress(ResultsError):  # the report will say what is wrong with such a record
            changed = protocol.stale_parts(records.read_found(where), data) if where else []
            count += bool(changed)
            parts.update(changed)
    if not count:
        return ""
    command = f"`{suite.command(results)} --redo stale`"
    return f"{count} records are stale ({', '.join(sorted(parts))} changed since). Do them again: {command}."


def run_all(
    results: Path,
    todo: list[Run],
    engine: Engine,
    share: bool = True,
    wait_timeout: float = math.inf,
    expected_seconds: ExpectedSeconds = lambda run: 0.0,
) -> RunCounts:
    """Execute the runs; see `run_rounds`."""
    return run_rounds(results, [todo], engine, share, wait_timeout, expected_seconds)


def run_rounds(
    results: Path,
    rounds: Iterable[list[Run]],
    engine: Engine,
    share: bool = True,
    wait_timeout: float = math.inf,
    expected_seconds: ExpectedSeconds = lambda run: 0.0,
    budget: Budget | None = None,
) -> RunCounts:
    """Execute the runs of one round after the other, in each the longest first, and write their records.
    With a budget they keep their order, and those that are not expected to end in time are left.

    What the next round is may depend on the records of this one; so it is asked for only when they are all written. A
    round of which something is left (see `wait_timeout` and `budget`) is the last.

    Records are written here and nowhere else, so an engine needs no shared folder. The first SIGINT or SIGTERM lets the
    engine save the states of unfinished runs and raises Stopped; any other exception stops the engine at once. Records
    of finished runs stay in any case.

    Args:
        share: runs that differ only in probes, or in labels that their loss does not use, are trained once
        wait_timeout: seconds without progress after which trainings that other commands have claimed are left to them
    """
    counts = RunCounts()
    with stop.Request() as request:
        try:
            for todo in rounds:
                trainings = training_groups.group(todo) if share else list(map(training_groups.single_run, todo))
                ordered = trainings if budget else longest_first(trainings, expected_seconds)
                if not _work(_TrainingQueue(results, ordered, engine, wait_timeout, counts, budget), engine, request):
                    break
        finally:
            engine.cancel()
    return counts


def _work(queue: "_TrainingQueue", engine: Engine, request: stop.Request) -> bool:
    """Execute a queue; False if some of it is left, to other commands or for lack of time."""
    try:
        queue.submit()
        while queue.unfinished() and not request:
            finished = queue.wait()
            try:
                if not request:
                    queue.submit()  # before records are written: workers need not wait for that
            finally:
                queue.write_records(finished)
        if request:
            queue.write_records(engine.cancel(GRACE_SECONDS))
            raise stop.Stopped(request.number)
    except BaseException:
        engine.cancel()  # before claims are released: no other command may begin what a worker still does
        raise
    finally:
        queue.progress.close()
        queue.claims.release_all()
    return not (queue.waiting or queue.claimed_elsewhere)


class _TrainingQueue:
    """The trainings of a command: waiting, claimed by other commands, or in the engine."""

    def __init__(
        self,
        results: Path,
        trainings: list[TrainingGroup],
        engine: Engine,
        wait_timeout: float,
        counts: RunCounts,
        budget: Budget | None = None,
    ):
        runs = [run for training in trainings for run in training.runs]
        self.results, self.engine, self.progress = results, engine, Progress(runs)
        self.counts, self.claims = counts, Claims(results)
        self.wait_timeout, self.last_progress, self.budget = wait_timeout, time.monotonic(), budget
        self.first_mtimes = {run.id: records.mtime(records.path_of(results, run)) for run in runs}
        self.waiting, self.claimed_elsewhere, self.in_flight = deque(trainings), deque[TrainingGroup](), 0

    def unfinished(self) -> bool:
        """Is there something to do, or, until the timeout, to wait for?"""
        in_time = time.monotonic() - self.last_progress < self.wait_timeout
        left = (*self.waiting, *self.claimed_elsewhere) if in_time else ()
        return bool(self.in_flight or (any(map(self.budget.fits, left)) if self.budget else left))

    def submit(self) -> None:
        """Fill the engine's slots with trainings that no other command works on."""
        while self.in_flight < self.engine.slots and (training := self._next()):
            if not self.claims.take(training.id):
                self.claimed_elsewhere.append(training)
                continue
            left = tuple(run for run in training.runs if not self._done_elsewhere(run))
            if left:
                self.engine.submit(replace(training, runs=left))
                for run in left:
                    self.progress.started(run)
                self.in_flight += 1
            else:
                self.claims.release(training.id)

    def _next(self) -> TrainingGroup | None:
        """Takes the first training that waits; with a budget, the first that is expected to end in time."""
        for at, training in enumerate(self.waiting):
            if self.budget is None or self.budget.fits(training):
                del self.waiting[at]
                return training
        return None

    def wait(self) -> list[Finished]:
        """Wait for a training to finish, at most POLL_SECONDS."""
        finished: list[Finished] = []
        if self.in_flight:
            finished = self.engine.results(POLL_SECONDS)
            self.in_flight -= len(finished)
        elif self.claimed_elsewhere:
            time.sleep(POLL_SECONDS)
        self.claims.heartbeat()
        self.waiting.extend(self.claimed_elsewhere)
        self.claimed_elsewhere.clear()
        self.progress.refresh()
        return finished

    def write_records(self, finished: Iterable[Finished]) -> None:
        """Write the records of finished runs, and only then delete the states of their trainings."""
        for training, run_results in finished:
            for run, (record, curves) in zip(training.runs, run_results, strict=True):
                records.write(self.results, run, record, curves)
                self.counts.statuses[record["status"]] += 1
                self.progress.finished(run, record)
            if self.budget:
                self.budget.learn(training, run_results)
            cleanup.remove_state(self.results, training)
            self.claims.release(training.id)
            self.last_progress = time.monotonic()

    def _done_elsewhere(self, run: Run) -> bool:
        """Has another command written the run's record since this one began?"""
        if records.mtime(records.path_of(self.results, run)) == self.first_mtimes[run.id]:
            return False
        self.counts.done_elsewhere += 1
        self.progress.done_elsewhere(run)
        return True
