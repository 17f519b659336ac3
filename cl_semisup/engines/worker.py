"""The command's handle of one worker process."""

import contextlib
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cl_semisup.engines import fork_server, worker_main
from cl_semisup.engines.pool import WorkerHandle
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup

EXIT_SECONDS = 5.0  # between the end of a worker's pipe and that of its process


class LocalWorker(WorkerHandle):
    def __init__(self, machine: Machine, plugin_files: tuple[Path, ...]):
        context = fork_server.context(machine.device, machine.plain)
        self.machine = machine
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, machine, plugin_files, dict(os.environ))
        self.process: BaseProcess = context.Process(target=worker_main.main, args=arguments, daemon=True)  # type: ignore[attr-defined]
        with fork_server.signals_blocked():  # until worker_main has set its handlers
            self.process.start()
        theirs.close()
        self._state_mtime: int | None = None  # of the state on disk when the training was sent

    def send(self, training: TrainingGroup) -> None:
        self._state_mtime = self._mtime(training)
        with contextlib.suppress(OSError):  # it died while idle: `receive` will return None
            self.pipe.send(training)

    def receive(self) -> Any:
        """READY_MESSAGE, RunResults, or the InputError that kept it from starting; None if the process is gone."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(EXIT_SECONDS)  # else our own kill would hide what it died of
            return None

    def made_progress(self) -> bool:
        """Has the training saved a state since it was sent?"""
        return self.training is not None and self._mtime(self.training) != self._state_mtime

    def ask_to_stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def cause_of_death(self) -> str:
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "signal SIGKILL, which is also what the system sends when memory runs out"
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"

    def _mtime(self, training: TrainingGroup) -> int | None:
        try:
            return self.machine.checkpoint_path(training).stat().st_mtime_ns
        except OSError:
            return None
