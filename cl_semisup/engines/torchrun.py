"""One training at a time on all processes that `torchrun` started: `torchrun --nproc-per-node 8 benchmark.py SUITE`.

Rank 0 is the command: it claims, trains, evaluates and writes, through this engine (see `scheduler.Engine`). The other
ranks are its workers: they take part in each training that rank 0 announces. Ranks exchange messages through torchrun's
store, which outlives a training. Tensors go through a process group that is made for each training and destroyed with
it, so that a failed training leaves nothing behind. If one rank fails, communication fails on the others too; the runs
then fail with the first rank's reason.
"""

import json
import math
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

from cl_semisup.errors import EngineError, InputError, described, stops_process
from cl_semisup.execution import stop
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import Finished, RunResults, TrainingGroup
from cl_semisup.suite.run import Run

TIMEOUT_SECONDS = 600.0  # of communication; then a process counts as lost
GRACE_SECONDS = 30.0  # how long to wait for this process, once another has failed or the time limit is over
POLL_SECONDS = 0.05
STOP = "stop"


def processes() -> int:
    """How many torchrun started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_distributed() -> bool:
    return processes() > 1


def is_worker_rank() -> bool:
    """Is this any process but rank 0?"""
    return is_distributed() and int(os.environ["RANK"]) > 0


def device_of_process(device: str) -> str:
    """`cpu`, or the GPU that belongs to this process."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device: under torchrun must be auto, cpu or cuda. Got {device!r}. Leave it out.")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    local_rank, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local_rank >= count:
        rule = f"--nproc-per-node must not exceed the GPUs of a machine, {count}"
        raise InputError(f"{rule}. Got at least {local_rank + 1}. Lower it, or add --device cpu.")
    return f"cuda:{local_rank}"


class Messages:
    """What the processes tell each other, apart from tensors. Trainings are numbered, equally on all ranks."""

    def __init__(self) -> None:
        from torch.distributed.rendezvous import rendezvous

        self.store, self.rank, self.size = next(rendezvous("env://", timeout=timedelta(seconds=TIMEOUT_SECONDS)))
        self.number = 0

    def announce(self, order: str) -> None:
        """Rank 0: tell the others what comes next."""
        self.number += 1
        self.store.set(f"order/{self.number}", order)

    def next_order(self) -> str:
        """Other ranks: wait, without a time limit, for what rank 0 announces next."""
        self.number += 1
        order = self.read("order", math.inf)
        assert order is not None  # there is no time limit
        return order

    def post(self, event: str, text: str) -> None:
        """Tell all ranks that this training has `failed` here or is `over`; only the first text of an event counts."""
        self.store.compare_set(f"{event}/{self.number}", "", text)

    def post_failure(self, error: BaseException) -> None:
        self.post("failed", f"process {self.rank} of {self.size}: {described(error)}")

    def read(self, event: str, seconds: float = 0.0) -> str | None:
        """The text that any rank posted for an event of this training, within some seconds; None if none did."""
        deadline = time.monotonic() + seconds
        while not self.store.check([f"{event}/{self.number}"]):
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL_SECONDS)
        return str(self.store.get(f"{event}/{self.number}").decode())

    @contextmanager
    def process_group(self) -> Iterator[None]:
        """Within, tensors can be exchanged. A rank that fails posts its reason before it leaves the group."""
        from torch import cuda, distributed
        from torch.distributed.distributed_c10d import PrefixStore

        self._wait_for_all()
        store = PrefixStore(f"training {self.number}", self.store)
        timeout = timedelta(seconds=TIMEOUT_SECONDS)
        backend = "cpu:gloo,cuda:nccl" if cuda.is_available() and distributed.is_nccl_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=timeout)
        try:
            yield
        except BaseException as error:
            if not stops_process(error):
                self.post_failure(error)
            raise
        finally:
            distributed.destroy_process_group()

    def _wait_for_all(self) -> None:
        """Wait until all ranks are ready for this training; ProcessLost if one never will be."""
        from torch.distributed import DistStoreError

        from cl_semisup.training.exchange import ProcessLost

        ready = self.store.add(f"ready/{self.number}", 1)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while ready < self.size:
            if self.read("failed") or self.read("over") or time.monotonic() > deadline:
                raise ProcessLost("a process is not there for this training")
            time.sleep(POLL_SECONDS)
            try:
                ready = self.store.add(f"ready/{self.number}", 0)
            except DistStoreError as error:
                raise ProcessLost(str(error)) from error


@cache
def messages() -> Messages:
    return Messages()


class TorchrunEngine:
    """The engine of rank 0. It trains in a thread, so that the main thread handles signals and the time limit."""

    slots = 1

    def __init__(self, machine: Machine, limit: float):
        self.machine, self.limit = machine, limit
        self.stop_requested = threading.Event()
        self._todo: queue.Queue[TrainingGroup | None] = queue.Queue()
        self._done: queue.Queue[tuple[TrainingGroup, RunResults | None] | BaseException] = queue.Queue()
        self._current: TrainingGroup | None = None
        self._start_time = self._failure_time = 0.0
        self._hangs = False
        messages()  # created before the second thread, which uses it too
        self._thread = threading.Thread(target=self._run_trainings, daemon=True)
        self._thread.start()

    def submit(self, training: TrainingGroup) -> None:
        if self._hangs:
            raise EngineError(
                "a process of torchrun does not come back from a failed run. Start the same command again to go on."
            )
        self._current, self._start_time, self._failure_time = training, time.monotonic(), 0.0
        self._todo.put(training)

    def results(self, seconds: float) -> list[Finished]:
        """Wait for the training, at most so many seconds. One that takes too long, or hangs, finishes as a failure."""
        try:
            message = self._done.get(timeout=seconds)
        except queue.Empty:
            return [failure] if (failure := self._overdue()) else []
        if isinstance(message, BaseException):
            raise message
        training, results = message
        self.stop_requested.clear()
        return [(training, self._failures(self._too_long()) if results is None else results)]

    def cancel(self, seconds: float = 0.0) -> list[Finished]:
        """Stop; a training that still runs ends with this process.

        Given seconds, all ranks save their state after the current step; a training that ends meanwhile is returned.
        """
        self.stop_requested.set()
        self._todo.put(None)
        self._thread.join(seconds)
        finished = []
        while not self._done.empty():
            message = self._done.get()
            if isinstance(message, tuple) and message[1] is not None:
                finished.append((message[0], message[1]))
        return finished

    def _overdue(self) -> Finished | None:
        """A failure, if the time limit is over, or another process has failed, and this one still hangs after that."""
        now, training = time.monotonic(), self._current
        if training is None:
            return None
        reason = messages().read("failed")
        if now > self._start_time + self.limit:
            self.stop_requested.set()
            reason = reason or self._too_long()
        if reason is None:
            return None
        self._failure_time = self._failure_time or now
        if now < self._failure_time + GRACE_SECONDS:
            return None
        self._hangs = True
        return training, self._failures(reason)

    def _too_long(self) -> str:
        return f"took longer than the limit of {self.limit:g} s"

    def _failures(self, reason: str) -> RunResults:
        from cl_semisup.execution.execute import failed_results

        assert self._current is not None  # something was submitted
        return failed_results(self._current, self.machine, reason)

    def _run_trainings(self) -> None:
        """The thread: execute training after training."""
        from cl_semisup.training.checkpoint import Preempted

        try:
            execute = _executor(self.machine, self.stop_requested.is_set)
            while (training := self._todo.get()) is not None:
                try:
                    self._done.put((training, self._train(execute, training)))
                except Preempted:
                    self._done.put((training, None))
        except BaseException as error:  # `results` raises it in the main thread
            self._done.put(error)

    def _train(self, execute: Any, training: TrainingGroup) -> RunResults:
        from cl_semisup.training.exchange import ProcessLost

        if not training.runs[0].epochs:  # nothing is trained, so the other ranks are not needed
            return execute.run_group(training)
        messages().announce(_to_json(self.machine, training))
        try:
            results: RunResults = execute.run_group(training)
        except ProcessLost as error:
            reason = messages().read("failed", GRACE_SECONDS)
            if reason is None:
                rule = "a process of torchrun has died or hangs"
                raise EngineError(f"{rule}: {error}. Start the same command again to go on.") from error
            return self._failures(reason)
        finally:
            messages().post("over", "over")
        return results


def run_worker_rank(device: str, plugin_files: Sequence[Path]) -> int:
    """The main function of every rank but 0: take part in trainings until rank 0 says stop. It ignores signals."""
    from cl_semisup import plugins
    from cl_semisup.training.checkpoint import Preempted
    from cl_semisup.training.exchange import ProcessLost

    for path in plugin_files:
        plugins.register(path)
    own_device, executor = device_of_process(device), None
    with stop.Request():
        while (order := messages().next_order()) != STOP:
            machine, training = _from_json(order)
            machine = replace(machine, device=own_device)
            if executor is None or executor.machine != machine:
                executor = _executor(machine, lambda: False)
            try:
                executor.train_only(training)
            except Preempted:
                continue
            except ProcessLost as error:
                if messages().read("failed") is None and messages().read("over", GRACE_SECONDS) is None:
                    raise EngineError(f"process {messages().rank}: {error}") from error
            except BaseException as error:  # rank 0 makes a record of it
                if stops_process(error):
                    raise
                messages().post_failure(error)
    return 0


@contextmanager
def stopping_worker_ranks() -> Iterator[None]:
    """Around the command: when rank 0 leaves it, in whatever way, the other ranks stop too."""
    try:
        yield
    finally:
        if is_distributed() and not is_worker_rank():
            messages().announce(STOP)


def _executor(machine: Machine, stop_requested: Callable[[], bool]) -> Any:
    """An Executor on this process's device; to be created in the thread that trains."""
    import torch

    from cl_semisup.execution.execute import Executor

    torch.set_num_threads(machine.threads)
    if machine.device.startswith("cuda"):
        torch.cuda.set_device(machine.device)
    return Executor(machine, stop_requested, messages().process_group)


def _to_json(machine: Machine, training: TrainingGroup) -> str:
    runs = [run.settings() for run in training.runs]
    return json.dumps({"machine": asdict(machine), "id": training.id, "runs": runs})


def _from_json(order: str) -> tuple[Machine, TrainingGroup]:
    content = json.loads(order)
    return Machine(**content["machine"]), TrainingGroup(content["id"], tuple(map(Run.from_dict, content["runs"])))
