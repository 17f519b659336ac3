"""The memory of a process that trains: freed memory is kept for the next tensor, and a run's peak is told.

The peak is of a GPU what tensors take; else the process's resident set, libraries and all.
"""

import contextlib
import ctypes
import platform
import resource
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # names of numbers of mallopt(3)
PAD = 64 * 2**20  # bytes that the heap grows by: address space, which takes memory when it is written to


def keep() -> None:
    """Have this process keep what it frees, instead of asking the system for the next tensor's memory.

    The C library of most Linuxes gives large blocks back at once, and each page of the next one is cleared and mapped
    anew: a fifth of a step of a convnet on 32 x 32 pixels. Other C libraries are left as they are.
    """
    for number, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (TOP_PAD, PAD)):
        _ask_glibc("mallopt", number, value)


def restart(device: torch.device) -> None:
    """Forget the peak so far: a worker does many runs, keeps memory, and is started by a process that had its own."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _ask_glibc("malloc_trim", 0)  # what is kept goes back to the system
        with contextlib.suppress(OSError):  # Linux alone can forget; elsewhere the peak is that of all runs so far
            (PROCESS / "clear_refs").write_text("5")  # proc(5): the resident set's peak becomes what it is now


def peak(device: torch.device) -> int:
    """Bytes, since `restart` where that can be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # What getrusage tells of a process on Linux is at least what the process that started it had when it did.
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if platform.system() == "Darwin" else largest * 1024


def _ask_glibc(function: str, *numbers: int) -> None:
    """Call a function that the C library of most Linuxes has, and others lack."""
    if platform.system() == "Linux":
        getattr(ctypes.CDLL(None), function, lambda *_: None)(*numbers)
