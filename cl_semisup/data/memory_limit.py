"""Data that claim a size are compared with this machine's memory before any of them is read."""

from cl_semisup.errors import DataError
from cl_semisup.system.cgroups import machine_bytes

__all__ = ["SHARE", "machine_bytes", "require"]

SHARE = 0.5  # of the memory; reading an array may copy it once


def require(size: int, what: str, remedy: str = "Use fewer or smaller images.") -> None:
    """DataError unless so many bytes, as a header claims, fit in half of the memory."""
    limit = int(SHARE * machine_bytes())
    if size > limit:
        rule = f"must fit in half of this machine's memory, {limit} bytes, when it is unpacked"
        raise DataError(f"{what}: {rule}. Got {size}, as its headers say. {remedy}")
