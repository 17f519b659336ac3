"""The most memory that a run takes: of a GPU what tensors take; else the process's resident set, libraries and all."""

import contextlib
import platform
import resource
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


def restart(device: torch.device) -> None:
    """Forget the peak so far: a worker does many runs, and is started by a process that had its own."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
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
