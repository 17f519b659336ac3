"""What a container (Linux control groups, version 1 or 2) leaves this process of the machine: cores and memory."""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

NO_LIMIT_BYTES = 2**60  # version 1 of cgroups writes a number beyond this for no limit


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may use: its affinity and its container's quota, rounded up. At least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroups(root):
        quota, _, period = _read(folder / "cpu.max").partition(" ")  # version 2
        quota = quota or _read(folder / "cpu.cfs_quota_us")  # version 1; -1 means none
        period = period or _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def memory_limit(root: Path = Path("/")) -> float:
    """Bytes that this process's container may use; infinity without a limit.

    Beyond `memory.high` processes are slowed down until they stand still. Version 1's soft limit and version 2's
    `memory.low` limit nobody: they say what is left to a group when others need memory.
    """
    limits = [math.inf]
    for folder in _cgroups(root):
        texts = [_read(folder / file) for file in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        for line in _read(folder / "memory.stat").splitlines():  # of version 1: also what is outside of the container
            if line.startswith("hierarchical_memory_limit "):
                texts.append(line.rpartition(" ")[2])
        numbers = (int(text) for text in texts if text.isdecimal())  # "max" means none
        limits += (number for number in numbers if number < NO_LIMIT_BYTES)
    return min(limits)


def machine_bytes(root: Path | None = None) -> int:
    """The memory of this machine, or of its container if that has less. `root` is the folder of the system's files.

    Without `root` the answer is at most a second old: it takes a millisecond, and is asked for every image.
    """
    return _this_machine(int(time.monotonic())) if root is None else _bytes(root)


@lru_cache(maxsize=1)
def _this_machine(second: int) -> int:
    return _bytes(Path("/"))


def _bytes(root: Path) -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such question here, as on Windows
        total = 2**63
    return int(min(total, memory_limit(root)))


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of those around them.

    A container often sees its own group as the top of the mount, and its path there as it is outside.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        names = (
            (controllers, *controllers.split(",")) if controllers else ("", "unified")
        )  # "cpu,cpuacct" is one folder
        bases = [mount / name for name in names]
        inner = [part for part in group.split("/") if part not in ("", "..")]
        yield from (base.joinpath(*inner[:depth]) for base in bases for depth in range(len(inner) + 1))


def _read(path: Path) -> str:
    """The text of a system's file; "" where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return path.read_text("utf-8").strip()
    return ""
