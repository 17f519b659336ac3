"""What a user's own file sets for its whole process when it is imported is put back where others compute there."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cl_semisup import plugins
from cl_semisup.plugins import process_state

LOSS = '''
import locale, os, signal, sys, threading, time, warnings
from dataclasses import dataclass
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
{imports}

@dataclass(frozen=True)
class Own:
    """A user's own loss."""

    def __call__(self, z1, z2, labels=None):
        import statistics_of_ours
        return statistics_of_ours.mean(z1, z2)
'''
CHANGES = {
    "dtype": "torch.set_default_dtype(torch.float64)",
    "device": "torch.set_default_device('meta')",
    "two devices": "torch.set_default_device('meta'); torch.device('cpu').__enter__()",
    "gradients": "torch.set_grad_enabled(False)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "dispatch": "TorchDispatchMode().__enter__()",
    "numpy": "np.seterr(all='raise')",
    "warnings": "warnings.simplefilter('error')",
    "signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "umask": "os.umask(0o777)",
    "recursion": "sys.setrecursionlimit(300)",
    "folder": "os.chdir('/')",
    "then an error": "np.seterr(all='raise'); raise KeyError",
}


@pytest.fixture(autouse=True)
def forget(forget_plugins: None) -> Iterator[None]:
    path = sys.path[:]
    yield
    sys.path[:] = path
    process_state.added_folders.clear()
    process_state.environment_before.clear()


def state() -> tuple[Any, ...]:
    umask = os.umask(0o022)
    os.umask(umask)
    return (
        *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()),
        *(torch.are_deterministic_algorithms_enabled(), torch.ones(1).sqrt().device, np.geterr(), warnings.filters[:]),
        *(signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD), umask, sys.getrecursionlimit()),
        *(os.getcwd(), torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()),
    )


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_file_sets_for_its_process_is_put_back(tmp_path: Path, change: str) -> None:
    (tmp_path / "own.py").write_text(LOSS.format(imports=CHANGES[change]))
    before = state()
    try:
        plugins.add(tmp_path / "own.py")
    except plugins.InputError:
        assert change == "then an error"
    assert state() == before


def test_folders_of_modules_come_last_and_workers_do_not_have_them(tmp_path: Path) -> None:
    """A file beside a loss named like one of Python's must not stand for it; the loss's own modules are found."""
    (tmp_path / "statistics_of_ours.py").write_text("def mean(a, b): return (a - b).square().mean()")
    (tmp_path / "fractions.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "own.py").write_text(LOSS.format(imports=f"sys.path.insert(0, {str(tmp_path)!r}); sys.path.pop(1)"))
    before = sys.path[:]
    plugins.add(tmp_path / "own.py")
    assert sys.path == [*before, str(tmp_path)]
    loss: Any = plugins.load("losses", "own")()
    assert float(loss(torch.ones(2, 2), torch.zeros(2, 2))) == 1
    with process_state.path_of_workers():
        assert sys.path == before
    assert sys.path == [*before, str(tmp_path)]
