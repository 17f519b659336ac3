"""The peak memory of a run does not include the run before it or the process that started the worker."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cl_semisup.execution import memory
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine

CPU, BIG = torch.device("cpu"), 300 * 2**20
linux = pytest.mark.skipif(platform.system() != "Linux", reason="only Linux can reset the peak")


@linux
def test_a_peak_can_be_reset() -> None:
    memory.reset_peak(CPU)
    before = memory.peak(CPU)
    torch.ones(BIG // 4)
    assert memory.peak(CPU) >= before + 0.9 * BIG
    memory.reset_peak(CPU)
    assert memory.peak(CPU) < before + 0.5 * BIG


@linux
def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it() -> None:
    tensor = torch.ones(BIG // 4)
    program = "import torch; from cl_semisup.execution import memory; print(memory.peak(torch.device('cpu')))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(output.stdout) < memory.peak(CPU) - 0.5 * tensor.nbytes


def test_without_the_files_of_linux_getrusage_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    linux_peak = memory.peak(CPU)
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "none")
    memory.reset_peak(CPU)
    assert memory.peak(CPU) >= 0.9 * linux_peak


PROGRAM = """
import resource
import torch
from cl_semisup.execution import memory

def pages():  # mapped by ten tensors of 64 MiB, one after the other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

CPU = torch.device("cpu")
default = pages()
memory.retain_freed_memory()
pages()  # the first blocks still map pages
retained = pages()
before = memory.peak(CPU)
memory.reset_peak(CPU)
print(default, retained, before - memory.peak(CPU))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can retain memory")
def test_freed_memory_is_retained_for_the_next_tensor_and_returned_before_the_next_training() -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    default, retained, returned = map(int, output.stdout.split())
    assert retained < default / 50
    assert returned > 0.9 * 2**26


@pytest.mark.parametrize("plain", [False, True])
def test_freed_memory_is_retained_unless_plain(monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    calls: list[str] = []
    monkeypatch.setattr(memory, "retain_freed_memory", lambda: calls.append("retain"))
    Executor(Machine("cpu", "", plain=plain))
    assert calls == ([] if plain else ["retain"])


def test_a_c_library_without_these_functions_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    memory.retain_freed_memory()
    memory.reset_peak(CPU)
