"""A run's peak of memory is its own, and not that of the run before or of the process that started the worker."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cl_semisup.execution import memory

CPU, BIG = torch.device("cpu"), 300 * 2**20
linux = pytest.mark.skipif(platform.system() != "Linux", reason="Linux alone can forget a peak")


@linux
def test_a_peak_is_forgotten() -> None:
    memory.restart(CPU)
    before = memory.peak(CPU)
    torch.ones(BIG // 4)
    assert memory.peak(CPU) >= before + 0.9 * BIG
    memory.restart(CPU)
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
    memory.restart(CPU)
    assert memory.peak(CPU) >= 0.9 * asked_of_linux
