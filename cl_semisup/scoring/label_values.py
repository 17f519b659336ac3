"""Labels as files hold them -> class indices and names: integers, strings, whole floats, one-hot rows, (N, 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.errors import DataError

Labels = NDArray[np.int64]
UNLABELLED = -1
MAX_LABEL = 2**63 - 1  # a larger one would turn into a negative one, which is no label


def to_classes(parts: Sequence[tuple[str, Any]]) -> tuple[list[Labels], tuple[str, ...]]:
    """The labels of all parts as (N,) classes from 0, -1 where unknown, and the names of the classes, sorted.

    Args:
        parts: where each part comes from, for messages, and its labels. A negative integer means unknown.
    """
    values = [_column(labels, where) for where, labels in parts]
    kinds = {column.dtype.kind for column in values}
    if len(kinds) > 1:
        where = ", ".join(where for where, _ in parts)
        raise DataError(f"{where}: must be all numbers or all text. Got both. Write them the same way.")
    known = [column[column >= 0] if column.dtype.kind == "i" else column for column in values]
    names = np.unique(np.concatenate(known))
    if len(names) < 2:
        raise DataError(f"{parts[0][0]}: must have two classes. Got {len(names)}. There is nothing to tell apart.")
    classes = [np.searchsorted(names, column).astype(np.int64) for column in values]
    if "i" in kinds:
        classes = [np.where(column < 0, UNLABELLED, found) for column, found in zip(values, classes, strict=True)]
    return classes, tuple(str(name) for name in names.tolist())


def _column(labels: Any, where: str) -> NDArray[Any]:
    """(N,) int64 or str."""
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    if array.ndim == 2 and array.dtype.kind in "iufb":
        return _from_one_hot(array, where)
    if array.ndim != 1:
        rule = "must be (N,), (N, 1) or one-hot (N, C)"
        raise DataError(f"{where}: {rule}. Got {array.dtype} {array.shape}. Reshape them.")
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2**53)
        if not whole.all():
            first = int(np.flatnonzero(~whole)[0])
            raise DataError(f"{where}: must be whole numbers. Got {array[first]!r} in row {first}. Round or name them.")
    elif array.dtype.kind not in "iubU":
        raise DataError(f"{where}: must be integers or text. Got {array.dtype}. Convert them.")
    if array.dtype.kind == "u" and array.max(initial=0) > MAX_LABEL:
        raise DataError(f"{where}: must be at most {MAX_LABEL}. Got {array.max()}. Renumber them; -1 means unknown.")
    return array if array.dtype.kind == "U" else array.astype(np.int64)


def _from_one_hot(array: NDArray[Any], where: str) -> NDArray[np.int64]:
    good = ((array == 0) | (array == 1)).all(axis=1) & ((array == 1).sum(axis=1) == 1)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        rule = "must have a single 1 in each row where they are (N, C)"
        raise DataError(f"{where}: {rule}. Got another row, {first}. Give one label a row.")
    return array.argmax(axis=1).astype(np.int64)
