"""The command's handle of one worker process."""

import contextlib
import io
import pickle
import secrets
import signal
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from cl_semisup.engines import fork_server, worker_main
from cl_semisup.engines.pool import WorkerHandle
from cl_semisup.engines.worker_main import READY, Answer, DataWanted
from cl_semisup.errors import stops_process
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.shared_data import Handle
from cl_semisup.execution.training_groups import TrainingGroup
from cl_semisup.plugins import process_state
from cl_semisup.plugins.user_file import UserFile

NAMES = {(kind.__module__, kind.__name__) for kind in (Answer, DataWanted)}  # all that an answer has beside plain data
EXIT_SECONDS = 5.0  # between the end of a worker's pipe and that of its process


class _Unpickler(pickle.Unpickler):
    """Reads answers of plain data, and calls nothing: a plug-in's object could end the command while it is read."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an answer")


class WorkerLost(Exception):
    """The worker's process has ended, or has sent what is no answer; the message is the cause."""


class LocalWorker(WorkerHandle):
    def __init__(self, machine: Machine, own_plugins: tuple[UserFile, ...]):
        context = fork_server.context(machine.device, machine.plain)
        self.machine = machine
        self.pipe, theirs = context.Pipe()
        self._token, self._received = secrets.token_bytes(worker_main.TOKEN_BYTES), bytearray()
        arguments = (theirs, self._token, machine, own_plugins, process_state.environment_of_workers())
        self.process: BaseProcess = context.Process(target=worker_main.main, args=arguments, daemon=True)  # type: ignore[attr-defined]
        blocked, unnamed = fork_server.signals_blocked(), fork_server.no_main_module()
        with blocked, unnamed, process_state.path_of_workers():  # until worker_main has set its handlers
            self.process.start()
        theirs.close()
        self._state_mtime: int | None = None  # of the state on disk when the training was sent

    def send(self, training: TrainingGroup) -> None:
        self._state_mtime = self._mtime(training)
        with contextlib.suppress(OSError):  # it died while idle: `receive` will return None
            self.pipe.send(training)

    def reply(self, handle: Handle | str) -> None:
        """To a worker that wants the data of its training."""
        with contextlib.suppress(OSError):  # it has died meanwhile
            self.pipe.send(handle)

    def receive(self) -> Answer | DataWanted | None:
        """Read what comes next, without waiting for more: an answer or a question, or None if it is not whole yet.

        A user's plug-in may write anything into the pipe. Only what concerns the training that was sent counts;
        anything else raises WorkerLost, as the end of the process does. What it has started may hold its pipe open.
        """
        piece = worker_main.read(self.pipe) if self.pipe in wait([self.pipe, self.process.sentinel]) else b""
        if not piece:
            self.process.join(EXIT_SECONDS)  # else our own kill would hide what it died of
            raise WorkerLost(self._cause_of_death())
        self._received += piece
        if not self._token.startswith(self._received[: len(self._token)]):
            raise WorkerLost("bytes in its pipe that are no answer")
        head = worker_main.TOKEN_BYTES + worker_main.SIZE_BYTES
        end = head + int.from_bytes(self._received[worker_main.TOKEN_BYTES : head])
        if len(self._received) < max(head, end):
            return None
        content, self._received = self._received[head:end], self._received[end:]
        try:
            answer = _Unpickler(io.BytesIO(content)).load()
        except BaseException as error:  # unpickling other bytes can raise anything
            if stops_process(error):
                raise
            raise WorkerLost(f"an answer that cannot be read: {type(error).__name__}") from error
        training = self.training.id if self.training else None
        if isinstance(answer, DataWanted) and (answer.process, answer.training) == (self.process.pid, training):
            return answer
        expected = self.training.id if self.training else READY
        wanted = (self.process.pid, expected, tuple if self.training else type(None))
        if not isinstance(answer, Answer) or (answer.process, answer.training, type(answer.results)) != wanted:
            raise WorkerLost("an answer that nobody has asked for")
        return answer

    def made_progress(self) -> bool:
        """Has the training saved a state since it was sent?"""
        return self.training is not None and self._mtime(self.training) != self._state_mtime

    def ask_to_stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def _cause_of_death(self) -> str:
        code = self.process.exitcode
        if code == -9:
            return "signal SIGKILL, which is also what the system sends when memory runs out"
        return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"

    def _mtime(self, training: TrainingGroup) -> int | None:
        try:
            return self.machine.checkpoint_path(training).stat().st_mtime_ns
        except OSError:
            return None
