"""The life of a worker process: it executes the trainings that come through its pipe.

Whatever is heavy is imported in the function, so that a worker that is still starting dies with its parent too.
"""

import ctypes
import os
import platform
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from cl_semisup.errors import InputError
from cl_semisup.execution.machine import Machine

READY = "ready"  # what a worker says once it has imported all it needs


def serve(pipe: Connection, machine: Machine, plugin_files: tuple[Path, ...], parent: int) -> None:
    """Until the pipe closes, or SIGTERM asks it to save its training's state and go."""
    leave = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what happens
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    _die_with(parent)

    import torch

    from cl_semisup import plugins
    from cl_semisup.execution.execute import Executor
    from cl_semisup.training.checkpoint import Left

    torch.set_num_threads(machine.threads)
    execute = Executor(machine, leave.is_set)
    try:
        for path in plugin_files:
            plugins.add(path)
        pipe.send(READY)
        while True:
            pipe.send(execute.training(pipe.recv()))
    except InputError as error:
        pipe.send(error)
    except (EOFError, OSError, Left):
        return


def _die_with(parent: int) -> None:
    """Ask Linux to end this process with its parent, so that a killed command leaves no orphans."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(1)
