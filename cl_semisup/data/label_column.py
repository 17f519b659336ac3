"""Labels as files hold them -> one column: integers, whole floats, text, bytes, one-hot rows, (N, 1)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import label_names
from cl_semisup.data.as_array import as_array
from cl_semisup.errors import DataError

LARGEST = 2**53  # whole floats are exact up to it


def column(labels: Any, where: str) -> NDArray[Any]:
    """(N,) int64, -1 where a label is unknown, or text, "" where it is; DataError with `where` for anything else."""
    array = as_array(labels, where)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = label_names.of_objects(array, where)
    label_names.require_width(array.dtype, where)
    if array.ndim == 2 and array.dtype.kind in "iufb" and 0 not in array.shape:
        return _of_one_hot(array, where)
    if array.ndim != 1:
        rule = "must be (N,), (N, 1) or one-hot (N, C)"
        raise DataError(f"{where}: {rule}. Got {array.dtype} {array.shape}. Reshape them.")
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array))
        if not whole.all():
            first = int(np.flatnonzero(~whole)[0])
            remedy = "Round or name them; `np.nan_to_num(labels, nan=-1)` says that NaN is no label"
            raise DataError(f"{where}: must be whole numbers. Got {float(array[first])} in row {first}. {remedy}.")
    elif array.dtype.kind not in "iubU":
        raise DataError(f"{where}: must be integers or text. Got {array.dtype}. Convert them.")
    if array.dtype.kind == "U":
        return array
    if len(array) and (float(array.max()) >= LARGEST or float(array.min()) < -1):
        got, remedy = f"{array.min()}..{array.max()}", "Renumber them: `np.unique(labels, return_inverse=True)[1]`"
        if array.max() < LARGEST:
            remedy = "Renumber them; `np.maximum(labels, -1)` takes all negative ones for none"
        raise DataError(f"{where}: must be from 0 to 2^53, -1 where unknown. Got {got}. {remedy}.")
    return array.astype(np.int64)


def unknown(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) bool, of a column."""
    return np.asarray(labels == ("" if labels.dtype.kind == "U" else -1))


def _of_one_hot(array: NDArray[Any], where: str) -> NDArray[np.int64]:
    good = ((array == 0) | (array == 1)).all(axis=1) & ((array == 1).sum(axis=1) == 1)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        rule = "must have a single 1 in each row where they are (N, C)"
        remedy = "Give one label a row: `np.where(labels.any(axis=1), labels.argmax(axis=1), -1)`"
        raise DataError(f"{where}: {rule}. Got another row, {first}. {remedy}.")
    return array.argmax(axis=1).astype(np.int64)
