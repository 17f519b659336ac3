"""A suite's runs through an engine: what is done is left alone, what is missing is claimed, run and written."""

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cl_semisup.execution import stop, training_groups
from cl_semisup.execution.training_groups import Finished, TrainingGroup
from cl_semisup.results import protocol, records
from cl_semisup.scheduling.claims import Claims
from cl_semisup.scheduling.order import Length, longest_first
from cl_semisup.scheduling.progress import Progress
from cl_semisup.suite.run import Run

POLL_SECONDS = 0.5  # how often a signal, and the runs of another command on the same folder, are looked for
PATIENCE = 90.0  # seconds after which what others still claim is in the hands of somebody who lives
GRACE_SECONDS = 8.0  # what workers have to save their state in when the command is stopped; schedulers give 10 and more


class Engine(Protocol):
    """What executes trainings, `slots` at once: this machine's workers, or a cluster.

    `results` waits at most so many seconds for one to finish. `cancel` ends all; given seconds, workers save the states
    of what is unfinished first, and what finishes meanwhile is given.
    """

    @property
    def slots(self) -> int: ...
    def submit(self, training: TrainingGroup) -> None: ...
    def results(self, seconds: float) -> list[Finished]: ...
    def cancel(self, seconds: float = 0.0) -> list[Finished]: ...


@dataclass
class RunCounts:
    """How a command's runs ended: statuses of those it executed, and how many others had done before or meanwhile."""

    statuses: Counter[str] = field(default_factory=Counter)
    found: int = 0

    @property
    def failed(self) -> int:
        return self.statuses["failed"]

    @property
    def done(self) -> int:
        return self.statuses.total() + self.found


def missing(results: Path, runs: Iterable[Run], redo: str = "none") -> list[Run]:
    """Runs without a record, and those whose record is to be redone: none, failed, stale or all."""
    return [run for run in runs if _wanted(records.path_of(results, run), redo)]


def _wanted(path: Path, redo: str) -> bool:
    if redo == "all" or not path.exists():
        return True
    if redo == "failed":
        return bool(records.read(path)["status"] == "failed")
    return redo == "stale" and bool(protocol.stale_parts(records.read(path)))


def run_all(
    results: Path,
    todo: list[Run],
    engine: Engine,
    share: bool = True,
    patience: float = math.inf,
    length: Length = lambda run: 0.0,
) -> RunCounts:
    """Execute the runs, the longest first; records are written here and nowhere else: an engine needs no shared folder.

    Runs that differ only in what training does not see are trained once, unless `share` is off. A training that
    another command has claimed is left to it, and waited for with `patience`. The first SIGINT or SIGTERM lets the
    engine save the states of unfinished runs and raises Stopped; any other exception stops the engine at once. Finished
    records stay in any case.
    """
    with stop.Request() as request:
        grouped = training_groups.group(todo) if share else list(map(training_groups.single_run, todo))
        work = _Work(results, longest_first(grouped, length), engine, patience)
        try:
            work.submit()
            while work.left() and not request:
                finished = work.wait()
                try:
                    if not request:
                        work.submit()  # before records are written, which workers need not wait for
                finally:
                    work.keep(finished)
            if request:
                work.keep(engine.cancel(GRACE_SECONDS))
                raise stop.Stopped(request.number)
        finally:
            work.progress.close()
            engine.cancel()
            work.claims.release_all()
    return work.outcome


class _Work:
    """The trainings of a command: waiting, claimed elsewhere, or in the engine."""

    def __init__(self, results: Path, todo: list[TrainingGroup], engine: Engine, patience: float):
        runs = [run for training in todo for run in training.runs]
        self.results, self.engine, self.progress = results, engine, Progress(runs)
        self.outcome, self.claims = RunCounts(), Claims(results)
        self.patience, self.worked = patience, time.monotonic()
        self.before = {run.id: _stamp(records.path_of(results, run)) for run in runs}
        self.waiting, self.elsewhere, self.flying = deque(todo), deque[TrainingGroup](), 0

    def left(self) -> bool:
        """Is there something to do, or, while patience lasts, to wait for?"""
        patient = time.monotonic() - self.worked < self.patience
        return bool(self.flying or (patient and (self.waiting or self.elsewhere)))

    def submit(self) -> None:
        """Fill the engine's slots with trainings that nobody else works on."""
        while self.waiting and self.flying < self.engine.slots:
            training = self.waiting.popleft()
            if not self.claims.take(training.id):
                self.elsewhere.append(training)
                continue
            left = tuple(run for run in training.runs if not self._found(run))
            if left:
                self.engine.submit(replace(training, runs=left))
                for run in left:
                    self.progress.started(run)
                self.flying += 1
            else:
                self.claims.release(training.id)

    def wait(self) -> list[Finished]:
        """For a training to finish, or a moment."""
        finished: list[Finished] = []
        if self.flying:
            finished = self.engine.results(POLL_SECONDS)
            self.flying -= len(finished)
        elif self.elsewhere:
            time.sleep(POLL_SECONDS)
        self.claims.beat()
        self.waiting.extend(self.elsewhere)
        self.elsewhere.clear()
        self.progress.tick()
        return finished

    def keep(self, finished: Iterable[Finished]) -> None:
        """Write the records of finished runs, and only then forget the state of their training."""
        for training, answers in finished:
            for run, (record, curves) in zip(training.runs, answers, strict=True):
                records.write(self.results, run, record, curves)
                self.outcome.statuses[record["status"]] += 1
                self.progress.finished(run, record)
            for state in (self.results / "checkpoints").glob(f"{training.id}.*"):  # or half of one, of a killed worker
                state.unlink(missing_ok=True)
            self.claims.release(training.id)
            self.worked = time.monotonic()

    def _found(self, run: Run) -> bool:
        """Has another command finished it since?"""
        if _stamp(records.path_of(self.results, run)) == self.before[run.id]:
            return False
        self.outcome.found += 1
        self.progress.found(run)
        return True


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
