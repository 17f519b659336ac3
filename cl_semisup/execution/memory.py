"""Memory of a process that trains: keep freed memory for later tensors, and measure the peak of a run.

The peak is the memory of all tensors on a GPU; on a CPU it is the resident set of the whole process.
"""

import contextlib
import ctypes
import platform
from pathlib import Path

import torch

PROCESS = Path("/proc/self")
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # parameters of mallopt(3)
LARGE = 2**20  # bytes of a block that goes back to the system as soon as it is freed
HEAP_GROWTH = 64 * 2**20  # bytes of address space; a page takes memory only when it is written to


def retain_freed_memory() -> None:
    """Have the allocator keep freed memory for later tensors instead of returning it to the system.

    By default glibc returns large blocks at once, and the system clears and maps every page of the next one: a fifth of
    a training step of a convnet on 32 x 32 pixels. No effect with other C libraries.
    """
    for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (TOP_PAD, HEAP_GROWTH)):
        _call_glibc("mallopt", parameter, value)


def return_large_blocks() -> None:
    """Have the allocator return every large block at once; by default it keeps blocks as large as one freed before."""
    _call_glibc("mallopt", MMAP_THRESHOLD, LARGE)


def return_freed_memory() -> None:
    """Give freed memory back to the system, which the allocator may otherwise keep in many pieces."""
    _call_glibc("malloc_trim", 0)


def reset_peak(device: torch.device) -> None:
    """Start a new measurement: a worker does many runs, and freed memory of the last one would count."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        return_freed_memory()
        with contextlib.suppress(OSError):  # only on Linux; elsewhere the peak is that of all runs so far
            (PROCESS / "clear_refs").write_text("5")  # proc(5): reset the peak of the resident set


def peak(device: torch.device) -> int:
    """Bytes, since the last `reset_peak` if the system can reset the peak; 0 where it is not measured."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows, where it is not measured
        return 0
    # On Linux this value includes the size that the parent process had when it started this one.
    max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max_rss if platform.system() == "Darwin" else max_rss * 1024


def _call_glibc(function: str, *numbers: int) -> None:
    """Call a function of glibc; do nothing if the C library lacks it."""
    if platform.system() == "Linux":
        getattr(ctypes.CDLL(None), function, lambda *_: None)(*numbers)
