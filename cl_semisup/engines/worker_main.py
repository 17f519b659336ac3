"""The main function of a worker process, which executes the trainings that come through its pipe.

Heavy imports are inside the function: a worker that still imports must already die with its parent.
"""

import ctypes
import gc
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from cl_semisup.engines.fork_server import BLOCKED_SIGNALS
from cl_semisup.errors import InputError
from cl_semisup.execution.machine import Machine

READY_MESSAGE = "ready"  # the worker has imported all it needs


def main(pipe: Connection, machine: Machine, plugin_files: tuple[Path, ...], environment: Mapping[str, str]) -> None:
    """Execute trainings until the pipe closes, or until SIGTERM asks to save the training's state and exit."""
    stop_requested = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what happens
    signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)
    _die_with_parent()
    os.environ.clear()
    os.environ |= environment  # the command's, whatever process this one was forked from

    import torch

    from cl_semisup import plugins
    from cl_semisup.execution.execute import Executor
    from cl_semisup.training.checkpoint import Preempted

    torch.set_num_threads(machine.threads)
    execute = Executor(machine, stop_requested.is_set)
    try:
        for path in plugin_files:
            plugins.add(path)
        gc.freeze()  # imported modules stay: else each garbage collection looks through them, for 80 ms
        pipe.send(READY_MESSAGE)
        while True:
            pipe.send(execute.run_group(pipe.recv()))
    except InputError as error:
        pipe.send(error)
    except (EOFError, OSError, Preempted):
        return


def _die_with_parent() -> None:
    """End this process when the command, or the server that forked it, ends: a killed command leaves no orphans."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker's process

    def watch_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch_parent, daemon=True).start()
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
