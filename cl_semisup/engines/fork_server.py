"""Where workers on a CPU come from: a process that has imported what they need once, and is forked for each of them.

Imports are seconds of every spawned worker, and hundreds of megabytes; a forked one has them for nothing. Forking is
safe as long as that process computes nothing: torch has started no thread yet. A GPU, and what is no Linux, gets
spawned workers: drivers and system libraries there do not bear a fork.
"""

import multiprocessing
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path

PRELOADED = (
    "cl_semisup.execution.execute",
    "torch._dynamo",  # torch's optimizers import its compiler, to tell it to leave them single_run
    "scipy.optimize",  # the linear probe
    "scipy.special",  # the geometry
    "sklearn.model_selection",  # the digits
    "sklearn.datasets",
    "cl_semisup.cli",  # the command itself, which multiprocessing imports in every worker
)
GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # files of NVIDIA's, WSL's and AMD's drivers
PACKAGE_HOME = Path(__file__).parents[2]
DEAF_TO = (signal.SIGINT, signal.SIGTERM)


def serves(device: str, plain: bool = False) -> bool:
    """Are this device's workers forked?"""
    return device == "cpu" and platform.system() == "Linux" and not plain


def start() -> None:
    """Have it running, and importing; where it runs already, nothing happens."""
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    with deaf(), _this_package():
        forkserver.ensure_running()


def start_early(asked: str) -> None:
    """The same before torch can be asked for the device, if all else says that it will be the CPU."""
    if serves("cpu" if asked == "auto" and not any(map(os.path.exists, GPUS)) else asked):
        start()


def context(device: str, plain: bool = False) -> BaseContext:
    """How processes that work on this device are started."""
    if not serves(device, plain):
        return multiprocessing.get_context("spawn")
    start()
    return multiprocessing.get_context("forkserver")


@contextmanager
def deaf() -> Iterator[None]:
    """Processes that are started within, and theirs, hear neither Ctrl-C nor SIGTERM until they say so."""
    resource_tracker.ensure_running()  # else it would be started on the way, and unblock the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DEAF_TO)


@contextmanager
def _this_package() -> Iterator[None]:
    """Python started within finds this very package, and never one that happens to lie in the current folder.

    Libraries that it imports compute on one thread unless OMP_NUM_THREADS says otherwise: there is a worker a core.
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
