"""A run's peak of memory is its own, and not that of the run before or of the process that started the worker."""

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
linux = pytest.mark.skipif(platform.system() != "Linux", reason="Linux alone can forget a peak")


@linux
def test_a_peak_is_forgotten() -> None:
    memory.reset_peak(CPU)
    before = memory.peak(CPU)
    torch.ones(BIG // 4)
    assert memory.peak(CPU) >= before + 0.9 * BIG
    memory.reset_peak(CPU)
    assert memory.peak(CPU) < before + 0.5 * BIG


@linux
def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it() -> None:
    held = torch.ones(BIG // 4)
    program = "import torch; from cl_semisup.execution import memory; print(memory.peak(torch.device('cpu')))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) < memory.peak(CPU) - 0.5 * held.nbytes


def test_without_the_files_of_linux_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked_of_linux = memory.peak(CPU)
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "none")
    memory.reset_peak(CPU)
    assert memory.peak(CPU) >= 0.9 * asked_of_linux


PROGRAM = """
import resource
import torch
from cl_semisup.execution import memory

def pages():  # that are mapped anew by ten tensors of 64 MiB, one after the other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

CPU = torch.device("cpu")
usual = pages()
memory.retain_freed_memory()
pages()  # some are mapped until the blocks have found their places
kept = pages()
held = memory.peak(CPU)
memory.reset_peak(CPU)
print(usual, kept, held - memory.peak(CPU))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only this C library is told to keep memory")
def test_freed_memory_is_kept_for_the_next_tensor_and_given_back_before_the_next_training() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    usual, kept, given_back = map(int, told.stdout.split())
    assert kept < usual / 50
    assert given_back > 0.9 * 2**26


@pytest.mark.parametrize("plain", [False, True])
def test_memory_is_kept_where_runs_are_executed_fast(monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(memory, "retain_freed_memory", lambda: asked.append("keep"))
    Executor(Machine("cpu", "", plain=plain))
    assert asked == ([] if plain else ["keep"])


def test_a_c_library_without_these_functions_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    memory.retain_freed_memory()
    memory.reset_peak(CPU)
