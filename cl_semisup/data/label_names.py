"""Names of classes and labels that are text: how long one may be, told before text that is longer is unpacked.

numpy stores texts as wide as the longest, so one of a megabyte among a million takes a terabyte.
"""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import memory_limit
from cl_semisup.errors import DataError

MAX_LENGTH = 1000  # characters
CHARACTER_BYTES = 4  # of numpy's text
_TEXT = re.compile("[<>|=]?([SU])([0-9]+)")  # numpy's names of its types of text


def require_width(dtype: object, where: str) -> None:
    """DataError if an array's type, by its name in numpy, holds longer texts. Other types pass."""
    if (found := _TEXT.fullmatch(str(dtype))) and int(found[2]) > MAX_LENGTH:
        raise _too_long(int(found[2]), where)


def require(texts: Collection[str], where: str) -> None:
    """DataError if one of the texts is longer, or if all of them as one array are too large for the memory."""
    longest = max(map(len, texts), default=0)
    if longest > MAX_LENGTH:
        raise _too_long(longest, where)
    if with_nul := next((text for text in texts if "\0" in text), ""):  # numpy cuts it off at the end of a text
        raise DataError(f"{where}: must have names without NUL characters. Got {with_nul!r:.80}. Remove them.")
    memory_limit.require(CHARACTER_BYTES * longest * len(texts), where, "Shorten the longest.")


def array(texts: Collection[str], where: str) -> NDArray[np.str_]:
    """(M,) texts. Raises DataError as `require` does."""
    require(texts, where)
    return np.array(texts, str)


def of_objects(column: NDArray[Any], where: str) -> NDArray[np.str_]:
    """The same array as texts; one of Python's strings is looked at first. Raises DataError as `require` does."""
    if column.dtype.kind == "O":
        require([str(value) for value in column.flat], where)
    return column.astype(str)


def _too_long(got: int, where: str) -> DataError:
    rule = f"must have names of at most {MAX_LENGTH:,} characters"
    return DataError(f"{where}: {rule}. Got {got:,}. Shorten them, or number the classes.")
