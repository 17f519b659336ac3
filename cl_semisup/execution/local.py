"""Runs on this machine: a small pool of long-lived spawned workers. Importing torch takes seconds, so a worker serves
many runs; a worker that dies is replaced and its run tried again."""

import ctypes
import multiprocessing
import os
import platform
import signal
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cl_semisup import plugins
from cl_semisup.execution.execute import Executor, Machine, failed
from cl_semisup.records import Record
from cl_semisup.run import Run

ATTEMPTS = 3  # a run whose worker dies is tried this often before it is a failure
Finished = tuple[Run, Record, dict[str, Any]]


def default_workers(device: str) -> int:
    """One a core on a CPU, where one thread each beats threads for small networks; one a GPU."""
    return len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1


class Local:
    """An engine: `submit(run)`, `next()` -> (run, record, curves), `cancel()`; `slots` runs at once."""

    def __init__(self, machine: Machine, workers: int, plugin_files: Sequence[Path] = ()):
        self.machine, self.slots, self.plugin_files = machine, workers, tuple(plugin_files)
        self._waiting: deque[tuple[Run, int]] = deque()
        self._workers: list[_Worker] = []

    def submit(self, run: Run) -> None:
        """Queue a run; it starts as soon as a worker is free."""
        self._waiting.append((run, 1))
        self._assign()

    def next(self) -> Finished:
        """Wait for a run to finish; a run whose workers keep dying finishes as a failure."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.run is not None}
            for pipe in wait(list(busy)):
                finished = self._hear(busy[pipe])  # type: ignore[index]
                self._assign()
                if finished is not None:
                    return finished

    def cancel(self) -> None:
        """Stop all workers at once; unfinished runs leave no trace."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()
        self._waiting.clear()

    def _assign(self) -> None:
        while self._waiting:
            worker = next((w for w in self._workers if w.run is None), None)
            if worker is None:
                if len(self._workers) == self.slots:
                    return
                worker = _Worker(self.machine, self.slots, self.plugin_files)
                self._workers.append(worker)
            worker.give(*self._waiting.popleft())

    def _hear(self, worker: "_Worker") -> Finished | None:
        """A worker's result; None when it died and its run goes back to the queue."""
        run, attempt = worker.run, worker.attempt
        assert run is not None  # only busy workers are listened to
        try:
            record, curves = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            self._workers.remove(worker)
            worker.pipe.close()
            if attempt < ATTEMPTS:
                self._waiting.appendleft((run, attempt + 1))
                return None
            reason = f"the worker process died {attempt} times, the last time by {_death(worker.process.exitcode)}"
            return run, *failed(run, self.machine, reason)
        worker.run = None
        return run, record, curves


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, machine: Machine, slots: int, plugin_files: tuple[Path, ...]):
        context = multiprocessing.get_context("spawn")  # a fork after torch has started threads can deadlock
        self.pipe, theirs = context.Pipe()
        threads = max(1, default_workers("cpu") // slots)
        arguments = (theirs, machine, threads, plugin_files, os.getpid())
        self.process: BaseProcess = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.run: Run | None = None
        self.attempt = 0

    def give(self, run: Run, attempt: int) -> None:
        self.run, self.attempt = run, attempt
        try:
            self.pipe.send(run)
        except (BrokenPipeError, OSError):
            pass  # it died while idle: `next` hears that and tries the run again


def serve(pipe: Connection, machine: Machine, threads: int, plugin_files: tuple[Path, ...], parent: int) -> None:
    """A worker's life: execute the runs that come through the pipe, until it closes."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what happens
    _die_with(parent)
    torch.set_num_threads(threads)
    for path in plugin_files:
        plugins.add(path)
    execute = Executor(machine)
    while True:
        try:
            run = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(execute(run))


def _die_with(parent: int) -> None:
    """Ask Linux to end this process with its parent, so that a killed command leaves no orphans."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(1)


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
