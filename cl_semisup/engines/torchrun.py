"""One training at a time on all processes that `torchrun` started: `torchrun --nproc-per-node 8 benchmark.py SUITE`.

The first process is the command: it claims, trains, evaluates and writes, with this engine (see `conduct.Engine`). The
others follow: they take the trainings that it announces and train along. They talk through torchrun's own store, which
outlives a training; the tensors go through a process group that is made for each training and dropped with it, so that
a failure leaves nothing half done. Where one process fails, the others lose its voice; the runs fail for its reason.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cl_semisup.errors import EngineError, InputError
from cl_semisup.execution import stop
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, RunResults, TrainingGroup
from cl_semisup.suite.run import Run

SILENCE_SECONDS = 600.0  # after which a process that says nothing in a training counts as lost
GRACE_SECONDS = 30.0  # between another process's failure, or the end of a run's time, and the end of waiting for it
MOMENT = 0.05
STOP = "stop"


def processes() -> int:
    """How many torchrun started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def started() -> bool:
    """Are there several?"""
    return processes() > 1


def follower() -> bool:
    return started() and int(os.environ["RANK"]) > 0


def device_of_process(asked: str) -> str:
    """`cpu`, or the GPU that belongs to this process."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device: under torchrun must be auto, cpu or cuda. Got {asked!r}. Leave it out.")
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if own >= there:
        rule = f"--nproc-per-node must not exceed the GPUs of a machine, {there}"
        raise InputError(f"{rule}. Got at least {own + 1}. Lower it, or add --device cpu.")
    return f"cuda:{own}"


class Meeting:
    """What the processes tell each other beside tensors. Every training has a number; all count alike."""

    def __init__(self) -> None:
        from torch.distributed.rendezvous import rendezvous

        self.store, self.rank, self.size = next(rendezvous("env://", timeout=timedelta(seconds=SILENCE_SECONDS)))
        self.number = 0

    def announce(self, order: str) -> None:
        """The first process's word on what comes next."""
        self.number += 1
        self.store.set(f"order/{self.number}", order)

    def next(self) -> str:
        """What the first process announces next, as long as it takes."""
        self.number += 1
        while not self.store.check([f"order/{self.number}"]):
            time.sleep(MOMENT)
        return str(self.store.get(f"order/{self.number}").decode())

    def tell(self, what: str, reason: str) -> None:
        """Say that this training has failed here, or is over; the first word counts."""
        self.store.compare_set(f"{what}/{self.number}", "", reason)

    def told(self, what: str, seconds: float = 0.0) -> str | None:
        """What was told of this training by any process, within some seconds; None if nothing."""
        end = time.monotonic() + seconds
        while not self.store.check([f"{what}/{self.number}"]):
            if time.monotonic() >= end:
                return None
            time.sleep(MOMENT)
        return str(self.store.get(f"{what}/{self.number}").decode())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within, tensors go between all processes. Whoever fails says so first and then falls silent."""
        from torch import cuda, distributed
        from torch.distributed.distributed_c10d import PrefixStore

        self._gather()
        store = PrefixStore(f"training {self.number}", self.store)
        silence = timedelta(seconds=SILENCE_SECONDS)
        backend = "cpu:gloo,cuda:nccl" if cuda.is_available() and distributed.is_nccl_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=silence)
        try:
            yield
        except (Exception, SystemExit) as error:
            self.failed(error)
            raise
        finally:
            distributed.destroy_process_group()

    def failed(self, error: BaseException) -> None:
        self.tell("failed", f"process {self.rank} of {self.size}: {type(error).__name__}: {error}"[:1000])

    def _gather(self) -> None:
        """Wait until all processes are ready for this training, or one of them never will be."""
        from torch.distributed import DistStoreError

        from cl_semisup.training.exchange import ProcessLost

        ready = self.store.add(f"ready/{self.number}", 1)
        end = time.monotonic() + SILENCE_SECONDS
        while ready < self.size:
            if self.told("failed") or self.told("over") or time.monotonic() > end:
                raise ProcessLost("a process is not there for this training")
            time.sleep(MOMENT)
            try:
                ready = self.store.add(f"ready/{self.number}", 0)
            except DistStoreError as error:
                raise ProcessLost(str(error)) from error


@cache
def meeting() -> Meeting:
    return Meeting()


class Torchrun:
    """The engine of the first process. It trains in a thread, so that the command hears signals and keeps time."""

    slots = 1

    def __init__(self, machine: Machine, limit: float):
        self.machine, self.limit = machine, limit
        self.leaving = threading.Event()
        self._asked: queue.Queue[TrainingGroup | None] = queue.Queue()
        self._found: queue.Queue[tuple[TrainingGroup, RunResults | None] | BaseException] = queue.Queue()
        self._flying: TrainingGroup | None = None
        self._began = self._silent = 0.0
        self._broken = False
        meeting()  # before there are two threads that might open it
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, training: TrainingGroup) -> None:
        if self._broken:
            raise EngineError(
                "a process of torchrun does not come back from a failed run. Start the same command again to go on."
            )
        self._flying, self._began, self._silent = training, time.monotonic(), 0.0
        self._asked.put(training)

    def results(self, seconds: float) -> list[Finished]:
        """Wait for the training; none if it goes on. One that takes too long, or hangs, finishes as a failure."""
        try:
            found = self._found.get(timeout=seconds)
        except queue.Empty:
            return [late] if (late := self._overdue()) else []
        if isinstance(found, BaseException):
            raise found
        training, answers = found
        self.leaving.clear()
        return [(training, self._failures(self._too_long()) if answers is None else answers)]

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        """Let the others go; a training that still runs ends with this process.

        Given seconds, all processes leave after this step, the state saved; a training that ends meanwhile is given.
        """
        self.leaving.set()
        self._asked.put(None)
        self._thread.join(seconds)
        finished = []
        while not self._found.empty():
            found = self._found.get()
            if isinstance(found, tuple) and found[1] is not None:
                finished.append((found[0], found[1]))
        return finished

    def _overdue(self) -> Finished | None:
        """A failure, where the training has had its time, or another process has failed and this one hangs."""
        now, training = time.monotonic(), self._flying
        if training is None:
            return None
        reason = meeting().told("failed")
        if now > self._began + self.limit:
            self.leaving.set()
            reason = reason or self._too_long()
        if reason is None:
            return None
        self._silent = self._silent or now
        if now < self._silent + GRACE_SECONDS:
            return None
        self._broken = True
        return training, self._failures(reason)

    def _too_long(self) -> str:
        return f"took longer than the limit of {self.limit:g} s"

    def _failures(self, reason: str) -> RunResults:
        from cl_semisup.execution.execute import failed_results

        assert self._flying is not None  # something was submitted
        return failed_results(self._flying, self.machine, reason)

    def _work(self) -> None:
        """The thread: training after training, each announced to the others."""
        from cl_semisup.training.checkpoint import Preempted

        try:
            execute = _executor(self.machine, self.leaving.is_set)
            while (training := self._asked.get()) is not None:
                try:
                    self._found.put((training, self._train(execute, training)))
                except Preempted:
                    self._found.put((training, None))
        except BaseException as error:  # the command tells it
            self._found.put(error)

    def _train(self, execute: Any, training: TrainingGroup) -> RunResults:
        from cl_semisup.training.exchange import ProcessLost

        if not training.runs[0].epochs:  # nothing is trained
            return execute.run_group(training)
        meeting().announce(_order(self.machine, training))
        try:
            answers: RunResults = execute.run_group(training)
        except ProcessLost as error:
            reason = meeting().told("failed", GRACE_SECONDS)
            if reason is None:
                rule = "a process of torchrun has died or hangs"
                raise EngineError(f"{rule}: {error}. Start the same command again to go on.") from error
            return self._failures(reason)
        finally:
            meeting().tell("over", "over")
        return answers


def follow(device: str, plugin_files: Sequence[Path]) -> int:
    """The life of every process but the first: train along until that one says stop. Signals are its affair."""
    from cl_semisup import plugins
    from cl_semisup.training.checkpoint import Preempted
    from cl_semisup.training.exchange import ProcessLost

    for path in plugin_files:
        plugins.add(path)
    own, executor = device_of_process(device), None
    with stop.Request():
        while (order := meeting().next()) != STOP:
            machine, training = _read(order)
            machine = replace(machine, device=own)
            if executor is None or executor.machine != machine:
                executor = _executor(machine, lambda: False)
            try:
                executor.run_as_worker_rank(training)
            except Preempted:
                continue
            except ProcessLost as error:
                if meeting().told("failed") is None and meeting().told("over", GRACE_SECONDS) is None:
                    raise EngineError(f"process {meeting().rank}: {error}") from error
            except (Exception, SystemExit) as error:  # the first process makes a record of it
                meeting().failed(error)
    return 0


@contextmanager
def led() -> Iterator[None]:
    """Around the command: when the first process ends, in whatever way, the others may go."""
    try:
        yield
    finally:
        if started() and not follower():
            meeting().announce(STOP)


def _executor(machine: Machine, leave: Callable[[], bool]) -> Any:
    """What executes on this process's device; to be made in the thread that trains."""
    import torch

    from cl_semisup.execution.execute import Executor

    torch.set_num_threads(machine.threads)
    if machine.device.startswith("cuda"):
        torch.cuda.set_device(machine.device)
    return Executor(machine, leave, meeting().together)


def _order(machine: Machine, training: TrainingGroup) -> str:
    runs = [run.as_dict() for run in training.runs]
    return json.dumps({"machine": asdict(machine), "id": training.id, "runs": runs})


def _read(order: str) -> tuple[Machine, TrainingGroup]:
    asked = json.loads(order)
    return Machine(**asked["machine"]), TrainingGroup(asked["id"], tuple(map(Run.from_dict, asked["runs"])))
