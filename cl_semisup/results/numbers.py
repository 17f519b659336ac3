"""Which numbers a record may hold."""

from typing import Any

MAX_VALUE = 1e100  # of any number in a record: its square is finite, so statistics cannot overflow


def is_number(value: Any) -> bool:
    """Is this a number of at most MAX_VALUE, and no truth value?"""
    return type(value) in (int, float) and abs(value) <= MAX_VALUE  # a whole number may be too large for a float
