"""The main function of a worker process, which executes the trainings that come through its pipe.

Heavy imports are inside the function: a worker that still imports must already die with its parent.
"""

import ctypes
import gc
import json
import multiprocessing
import os
import pickle
import platform
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection

from cl_semisup.engines.fork_server import BLOCKED_SIGNALS
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import RunResults, TrainingGroup
from cl_semisup.plugins.user_file import UserFile

TOKEN_BYTES, SIZE_BYTES = 16, 8  # before the content of an answer
READ_BYTES = 2**20  # at once
BYTE_PIPES = os.name == "posix"
READY = ""  # in the place of a training's id: the worker has imported all it needs


@dataclass(frozen=True)
class Answer:
    """What a worker sends: who answers, which training, and its results; READY and None once it is ready."""

    process: int
    training: str
    results: RunResults | None


@dataclass(frozen=True)
class DataWanted:
    """What a worker sends that would read the command's copy of its training's data set."""

    process: int
    training: str


def main(
    pipe: Connection, token: bytes, machine: Machine, own_plugins: tuple[UserFile, ...], environment: Mapping[str, str]
) -> None:
    """Execute trainings until the pipe closes, or until SIGTERM asks to save the training's state and exit.

    Args:
        token: random bytes that begin each answer, so that nothing else that comes through the pipe is taken for one
    """
    stop_requested = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what happens
    signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
    _die_with_parent()
    _leave_helpers()
    if BYTE_PIPES:
        os.set_inheritable(pipe.fileno(), False)  # by programs that a plug-in starts: they would hold it open
    os.environ.clear()
    os.environ |= environment  # the command's, whatever process this one was forked from

    import torch

    from cl_semisup import device, plugins
    from cl_semisup.data.images import Images
    from cl_semisup.execution import shared_data
    from cl_semisup.execution.data import Data
    from cl_semisup.execution.execute import Executor
    from cl_semisup.execution.fast_paths import kernel_context
    from cl_semisup.native import view_kernel
    from cl_semisup.training.checkpoint import Preempted

    training: TrainingGroup | None = None

    def send(message: Answer | DataWanted) -> None:
        content = pickle.dumps(message)
        write(pipe, token + len(content).to_bytes(SIZE_BYTES) + content)

    def held_by_command(images: Images) -> Data | str:
        if training is None or not shared_data.is_large(images, machine):
            return ""
        send(DataWanted(os.getpid(), training.id))
        return shared_data.opened(pipe.recv, images, execute.device)

    torch.set_num_threads(machine.threads)
    execute = Executor(machine, stop_requested.is_set, held_by_command=held_by_command)
    for file in own_plugins:
        plugins.take(file)
    device.start(execute.device)
    with kernel_context(machine):
        view_kernel.load(execute.device)
    gc.freeze()  # imported modules stay: else each garbage collection looks through them, for 80 ms
    try:
        send(Answer(os.getpid(), READY, None))
        while not execute.device_lost:  # else the command starts another process
            training = pipe.recv()
            send(Answer(os.getpid(), training.id, to_json_data(execute.run_group(training))))
    except (EOFError, OSError, Preempted):
        return


def to_json_data(results: RunResults) -> RunResults:
    """The same as data of Python's own types, as the record's file will have it: the command reads no others."""
    return tuple((record, curves) for record, curves in json.loads(json.dumps(results)))


def write(pipe: Connection, content: bytes) -> None:
    """Write all bytes. On Windows a pipe is no file of the process: there they go as one message."""
    if not BYTE_PIPES:
        pipe.send_bytes(content)
        return
    unsent = memoryview(content)
    while unsent:
        unsent = unsent[os.write(pipe.fileno(), unsent) :]


def read(pipe: Connection) -> bytes:
    """Some bytes that have come, without waiting for more; b"" at the pipe's end."""
    try:
        return os.read(pipe.fileno(), READ_BYTES) if BYTE_PIPES else pipe.recv_bytes()
    except (OSError, EOFError):
        return b""


def _leave_helpers() -> None:
    """Close the pipes to multiprocessing's own processes, which end, and all workers with them, by a byte too much.

    A plug-in may write to any of this process's files. If it uses multiprocessing itself, it gets helpers of its own.
    """
    for helper, pipe in ((forkserver._forkserver, "_forkserver_alive_fd"), (resource_tracker._resource_tracker, "_fd")):
        descriptor = getattr(helper, pipe, None)
        if descriptor is not None:
            os.close(descriptor)
            setattr(helper, pipe, None)


def _die_with_parent() -> None:
    """End this process when the command, or the server that forked it, ends: a killed command leaves no orphans."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker's process

    def watch_parent() -> None:
        parent.join()
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows SIGTERM ends a process at once

    threading.Thread(target=watch_parent, daemon=True).start()
    if platform.system() == "Linux":
        _die_with_parent_process()
        os.register_at_fork(after_in_child=_die_with_parent_process)  # also what a user's plug-in forks


def _die_with_parent_process() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
