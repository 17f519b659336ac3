"""What a user's own file changes in the process that imports it, apart from what it defines.

A worker imports such a file only for a training that uses it, and ends then. The command goes on with suites, reports
and the workers of other losses. So there, what the file sets for its whole process is put back after the import:
working folder, umask, signal handlers, how numpy and warnings treat doubtful numbers, and torch's defaults. Its folders
of modules, which come last then, and its variables of the environment stay, as its methods may need them; workers start
without both.
"""

import locale
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

environment_before: dict[str, str | None] = {}  # variable that a user's own file has changed -> its value before
added_folders: set[str] = set()  # of modules, in `sys.path`, by users' own files


@contextmanager
def around_import() -> Iterator[None]:
    """Around the import of a user's own file."""
    folder, environment, path = os.getcwd(), dict(os.environ), sys.path[:]
    command = multiprocessing.parent_process() is None
    before = {**_process_state(), **_torch_state()} if command else {}
    try:
        yield
    finally:
        os.chdir(folder)  # a relative path of a suite must keep its meaning
        for variable in environment.keys() | os.environ.keys():
            if environment.get(variable) != os.environ.get(variable):
                environment_before.setdefault(variable, environment.get(variable))
        added_folders.update(set(sys.path) - set(path))
        if command:
            _put_back(before)


def environment_of_workers() -> dict[str, str]:
    """The process's environment without what users' own files have changed in it."""
    before = {name: environment_before.get(name, value) for name, value in (os.environ | environment_before).items()}
    return {name: value for name, value in before.items() if value is not None}


@contextmanager
def path_of_workers() -> Iterator[None]:
    """Processes that are started within import modules from where they would without users' own files.

    Else a folder of such a file, put first, would give other losses its `statistics.py` for Python's.
    """
    changed = sys.path[:]
    sys.path[:] = [folder for folder in changed if folder not in added_folders]
    try:
        yield
    finally:
        sys.path[:] = changed


def _process_state() -> dict[str, Any]:
    umask = os.umask(0o077)
    os.umask(umask)
    main = threading.current_thread() is threading.main_thread()  # only there handlers may be set
    import numpy as np  # not before a worker's server starts

    return {
        "umask": umask,
        "path": sys.path[:],
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()} if main else {},
        "numpy": np.geterr(),
        "warnings": warnings.filters[:],
        "recursion": sys.getrecursionlimit(),
        "locale": locale.setlocale(locale.LC_ALL),
    }


def _torch_state() -> dict[str, Any]:
    """Of torch, if it has been imported; else how it starts."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return {"dtype": "float32", "device": "cpu", "gradients": True, "deterministic": False, "modes": (0, 0)}
    return {
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "modes": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
    }


def _put_back(before: Mapping[str, Any]) -> None:
    import numpy as np

    _put_torch_back(before)
    os.umask(before["umask"])
    sys.path[:] = [*before["path"], *(folder for folder in sys.path if folder not in before["path"])]
    for number, handler in before["signals"].items():
        if handler is not None and signal.getsignal(number) != handler:  # None: set by no Python code
            with suppress(OSError, ValueError):  # SIGKILL and SIGSTOP have none
                signal.signal(number, handler)
    np.seterr(**before["numpy"])
    if warnings.filters != before["warnings"]:
        with warnings.catch_warnings():
            pass  # tells Python that they change
        warnings.filters[:] = before["warnings"]  # type: ignore[index]
    sys.setrecursionlimit(before["recursion"])
    locale.setlocale(locale.LC_ALL, before["locale"])


def _put_torch_back(before: Mapping[str, Any]) -> None:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    functions, dispatches = before["modes"]
    while torch._C._len_torch_dispatch_stack() > dispatches:
        torch._C._pop_torch_dispatch_stack(None)
    if str(torch.get_default_device()) != before["device"]:
        torch.set_default_device(None)
    while torch._C._len_torch_function_stack() > functions:
        torch._C._pop_torch_function_stack()
    torch.set_default_dtype(getattr(torch, before["dtype"]))
    torch._C._set_grad_enabled(before["gradients"])
    if torch.are_deterministic_algorithms_enabled() != before["deterministic"]:  # to set it imports torch's compiler
        torch.use_deterministic_algorithms(before["deterministic"])
