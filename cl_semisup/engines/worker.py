"""The parent's end of one worker process."""

import contextlib
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cl_semisup.engines import fork_server
from cl_semisup.engines.pool import Member
from cl_semisup.engines.worker_main import serve
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import TrainingGroup

LAST_SECONDS = 5.0  # between a worker's pipe and its process


class Worker(Member):
    def __init__(self, machine: Machine, plugin_files: tuple[Path, ...]):
        context = fork_server.context(machine.device, machine.plain)
        self.machine = machine
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, machine, plugin_files, dict(os.environ))
        self.process: BaseProcess = context.Process(target=serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        with fork_server.deaf():  # while it imports
            self.process.start()
        theirs.close()
        self._state: int | None = None  # the stamp of the state on disk when it was given

    def give(self, training: TrainingGroup) -> None:
        self._state = self._stamp(training)
        with contextlib.suppress(OSError):  # it died while idle: `hear` will tell
            self.pipe.send(training)

    def hear(self) -> Any:
        """serve.READY, RunResults, or the InputError that kept it from starting; None if the process is gone."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(LAST_SECONDS)  # or we would kill it ourselves, and not learn what it died of
            return None

    def blameless(self) -> bool:
        """Has the state on disk moved since it was given? Then a death was not for nothing."""
        return self.training is not None and self._stamp(self.training) != self._state

    def leave(self) -> None:
        self.process.terminate()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def death(self) -> str:
        """What ended the process, in words."""
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "signal SIGKILL, which is also what the system sends when memory runs out"
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"

    def _stamp(self, training: TrainingGroup) -> int | None:
        try:
            return self.machine.checkpoint_path(training).stat().st_mtime_ns
        except OSError:
            return None
