"""The source of the GPU's kernel for views, compiled for a CPU, where each block runs on a few threads of the system."""

import ctypes
import shutil
import subprocess
import threading
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup.native import view_kernel
from tests.gpu import imitated, imitated_graph

COMPILER = shutil.which("c++") or shutil.which("g++")
THREADS = 4  # of a block, a power of 2
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


def build(path: Path, *flags: str, source: Path = view_kernel.SOURCE.parent) -> subprocess.CompletedProcess[str]:
    """Compile views.cu, from the folder `source`, within its imitated block."""
    block = Path(__file__).with_name("block_of_threads.cpp")
    words = ["-std=c++17", "-Wall", "-Wno-unknown-pragmas", "-pthread", f"-I{source}", f"-I{view_kernel.SOURCE.parent}"]
    return subprocess.run(
        [str(COMPILER), *words, *flags, "-o", str(path), str(block)], capture_output=True, text=True, check=False
    )


class Kernel:
    """Stands in for what `torch.cuda` makes of machine code."""

    def __init__(self, library: ctypes.CDLL):
        self.library, self.launches = library, 0
        library.begin(THREADS)

    def __call__(self, grid: tuple[int, int, int], block: tuple[int, int, int], args: list[Any]) -> None:
        assert block[0] <= view_kernel.MOST_THREADS
        assert not block[0] & (block[0] - 1), "the sum over a block needs a power of 2"
        assert all(isinstance(x, imitated.OnGpu) and x.is_contiguous() for x in args if isinstance(x, torch.Tensor))
        self.launches += 1
        recording = imitated_graph.current_recording()
        if recording is None:
            self.run(grid[0], args)
        else:
            recording.add(lambda: self.run(grid[0], args))

    def run(self, blocks: int, args: list[Any]) -> None:
        def argument(x: Any) -> Any:
            if isinstance(x, imitated.OnGpu):
                return ctypes.c_void_p(x.held.data_ptr())
            return ctypes.c_double(x) if isinstance(x, float) else ctypes.c_int(x)

        numbers = [argument(x) for x in args]

        def thread(number: int) -> None:
            for one in range(blocks):
                self.library.enter(one, number, THREADS)
                self.library.make_views(*numbers)

        threads = [threading.Thread(target=thread, args=(number,)) for number in range(THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()


@cache
def kernel(folder: Path) -> Kernel:
    """Compiled once; the folder is where."""
    path = folder / "views.so"
    done = build(path, "-O1", "-shared", "-fPIC")
    assert not done.returncode, done.stderr
    return Kernel(ctypes.CDLL(str(path)))
