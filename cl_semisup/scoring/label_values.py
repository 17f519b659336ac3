"""Labels of an evaluation as class indices: the values that there are, in their order, are the classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import label_column
from cl_semisup.errors import DataError

Labels = NDArray[np.int64]
UNLABELLED = -1


def to_classes(parts: Sequence[tuple[str, Any]]) -> tuple[list[Labels], tuple[str, ...]]:
    """The labels of all parts as (N,) classes from 0, -1 where unknown, and the names of the classes, sorted.

    Args:
        parts: where each part comes from, for messages, and its labels
    """
    columns = [label_column.column(labels, where) for where, labels in parts]
    if len({column.dtype.kind for column in columns}) > 1:
        where = ", ".join(where for where, _ in parts)
        raise DataError(f"{where}: must be all numbers or all text. Got both. Write them the same way.")
    without = [label_column.unknown(column) for column in columns]
    names = np.unique(np.concatenate([column[~none] for column, none in zip(columns, without, strict=True)]))
    if len(names) < 2:
        raise DataError(f"{parts[0][0]}: must have two classes. Got {len(names)}. There is nothing to tell apart.")
    classes = [
        np.where(none, UNLABELLED, np.searchsorted(names, column)).astype(np.int64)
        for column, none in zip(columns, without, strict=True)
    ]
    return classes, tuple(str(name) for name in names.tolist())
