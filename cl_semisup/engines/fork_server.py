"""Where workers on a CPU come from: a server process imports what they need once, and is forked for each of them.

Imports take a spawned worker seconds and hundreds of megabytes; a forked one has them for nothing. Forking is safe as
long as the server computes nothing, since torch has not started a thread then. On a GPU, and on other systems than
Linux, workers are spawned, since drivers and system libraries there do not survive a fork.
"""

import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from types import ModuleType

from cl_semisup.plugins import process_state

PRELOADED_MODULES = (
    "cl_semisup.execution.execute",
    "torch._dynamo",  # torch's optimizers import its compiler, to tell it to leave them alone
    "scipy.optimize",  # the linear probe
    "scipy.special",  # the geometry
    "sklearn.model_selection",  # the digits
    "sklearn.datasets",
)
GPU_DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA, WSL and AMD
PACKAGE_HOME = Path(__file__).parents[2]
BLOCKED_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_one_thread = threading.Lock()


def uses_fork_server(device: str, plain: bool = False) -> bool:
    return device == "cpu" and platform.system() == "Linux" and not plain


def start() -> None:
    """Start the server, which begins to import; does nothing if it runs already."""
    multiprocessing.set_forkserver_preload(list(PRELOADED_MODULES))
    with signals_blocked(), _environment_of_workers(), process_state.path_of_workers():
        forkserver.ensure_running()


def start_early(device: str) -> None:
    """Start it before torch is imported; without a GPU driver, `auto` is taken to be the CPU."""
    if uses_fork_server("cpu" if device == "auto" and not any(map(os.path.exists, GPU_DRIVER_FILES)) else device):
        start()


def context(device: str, plain: bool = False) -> BaseContext:
    """How processes that work on this device are started."""
    if not uses_fork_server(device, plain):
        return multiprocessing.get_context("spawn")
    start()
    return multiprocessing.get_context("forkserver")


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes that are started within, and their children, block Ctrl-C and SIGTERM until they unblock them.

    No effect on Windows, which does not block signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it would be started within, and unblock the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_SIGNALS)


@contextmanager
def no_main_module() -> Iterator[None]:
    """Processes of multiprocessing that are started within do not import the program that starts them.

    They would run a script of a user again that calls `cl.run` outside of `if __name__ == "__main__"`.
    """
    with _one_thread:  # a second one would take the first one's replacement for the program
        program = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # without a file or a specification to import it by
        try:
            yield
        finally:
            sys.modules["__main__"] = program


@contextmanager
def _environment_of_workers() -> Iterator[None]:
    """Python started within imports this very package, and never one that happens to lie in the current folder.

    Libraries that it imports compute on one thread unless OMP_NUM_THREADS is set: there is one worker a core.
    """
    before = dict(os.environ)
    paths = [str(PACKAGE_HOME), *filter(None, [before.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        for name in ("PYTHONPATH", "PYTHONSAFEPATH", "OMP_NUM_THREADS"):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
