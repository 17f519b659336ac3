"""How much a record may hold: a folder has thousands, and what is read of each takes memory and time."""

from collections.abc import Mapping
from typing import Any

MAX_MEASURES = 2000  # each a column of tables; a record has about 50
MAX_VALUES = 20_000  # numbers, texts, lists and mappings in all; a record has about 150
MAX_REASON = 10_000  # characters; our own have at most 1,000


def problem(record: Mapping[str, Any], measures: int) -> str:
    """The limit that a record breaks, or ""; `measures` is the number of its scores and other measures."""
    if measures > MAX_MEASURES:
        return f"must have at most {MAX_MEASURES} measures. Got {measures}."
    if (length := len(record.get("reason", ""))) > MAX_REASON:
        return f"must have a reason of at most {MAX_REASON} characters. Got {length}."
    if _values(record) > MAX_VALUES:
        return f"must hold at most {MAX_VALUES} values. Got more."
    return ""


def _values(value: Any) -> int:
    """How many values there are in a value, itself among them; counted no further than just above the limit."""
    count, waiting = 0, [value]
    while waiting and count <= MAX_VALUES:
        one = waiting.pop()
        count += 1
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return count
