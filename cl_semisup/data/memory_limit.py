"""Data that claim a size are compared with this machine's memory before any of them is read."""

import os
from pathlib import Path

from cl_semisup import cgroups
from cl_semisup.errors import DataError

SHARE = 0.5  # of the memory; reading an array may copy it once


def require(size: int, what: str, remedy: str = "Use fewer or smaller images.") -> None:
    """DataError unless so many bytes, as a header claims, fit in half of the memory."""
    limit = int(SHARE * machine_bytes())
    if size > limit:
        rule = f"must fit in half of this machine's memory, {limit} bytes, when it is unpacked"
        raise DataError(f"{what}: {rule}. Got {size}, as its headers say. {remedy}")


def machine_bytes(root: Path = Path("/")) -> int:
    """The memory of this machine, or of its container if that has less. `root` is the folder of the system's files."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such question here, as on Windows
        total = 2**63
    return int(min(total, cgroups.memory_limit(root)))
