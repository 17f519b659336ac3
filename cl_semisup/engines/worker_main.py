"""The life of a worker process: it executes the trainings that come through its pipe.

Whatever is heavy is imported in the function, so that a worker that is still starting dies with its parent too.
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

from cl_semisup.engines.fork_server import DEAF_TO
from cl_semisup.errors import InputError
from cl_semisup.execution.machine import Machine

READY = "ready"  # what a worker says once it has imported all it needs


def serve(pipe: Connection, machine: Machine, plugin_files: tuple[Path, ...], environment: Mapping[str, str]) -> None:
    """Until the pipe closes, or SIGTERM asks it to save its training's state and go."""
    leave = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what happens
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, DEAF_TO)
    _die_with_parent()
    os.environ.clear()
    os.environ |= environment  # the command's, wherever this process comes from

    import torch

    from cl_semisup import plugins
    from cl_semisup.execution.execute import Executor
    from cl_semisup.training.checkpoint import Preempted

    torch.set_num_threads(machine.threads)
    execute = Executor(machine, leave.is_set)
    try:
        for path in plugin_files:
            plugins.add(path)
        gc.freeze()  # what is imported stays: no looking through it for garbage, 80 ms at a time
        pipe.send(READY)
        while True:
            pipe.send(execute.run_group(pipe.recv()))
    except InputError as error:
        pipe.send(error)
    except (EOFError, OSError, Preempted):
        return


def _die_with_parent() -> None:
    """End this process with the command, so that a killed one leaves no orphans, and with the server that forked it."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker's process

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
