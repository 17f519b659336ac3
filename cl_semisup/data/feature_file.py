"""Features and labels in a file as the arrays that a data set of features needs.

A part's arrays stand under their own names (`train`, `train_labels`, `train_view2`, ...), or all rows under `features`,
`labels` and `view2` beside an array or column `split` of the words `train` and `test`, which divides them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import array_file, label_column, label_names
from cl_semisup.errors import DataError
from cl_semisup.system import files

Arrays = dict[str, NDArray[Any]]
MAX_CLASSES = 1_000_000
FLOAT_BYTES = 4  # features are kept as float32
SPLITS = ("train", "test")
SUFFIXES = {"features": "", "labels": "_labels"}  # what becomes of a name when rows are divided: train_view2, ...


def read(path: Path, keys: Collection[str] = (), without: Collection[str] = ()) -> Arrays:
    """The arrays of a file by key, as they are stored; of bfloat16 as float32.

    Args:
        keys: the keys to read; all if empty. Those that the file lacks are left out
        without: of these keys only the shape is needed. Where headers tell it, zeros that take no memory come instead
    """
    with array_file.opened(path) as file:
        headers, divided = file.headers, "split" in file.headers
        wanted = {name: header for name, header in headers.items() if not keys or divided or name in keys}
        array_file.require_memory(path, list(wanted.values()), copy=FLOAT_BYTES)
        arrays: Arrays = {}
        for name, header in wanted.items():
            zeros = _zeros(header) if name in without and not divided else None
            arrays[name] = _numpy(file.read(name), f"{path}: {name}") if zeros is None else zeros
    if divided:
        arrays = _divided(arrays, path)
    return {key: array for key, array in arrays.items() if not keys or key in keys}


def _numpy(array: array_file.Array, where: str) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):  # a tensor: numpy has no bfloat16
        return (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()
    return label_names.of_objects(array, where) if array.dtype.kind == "O" else array


def _zeros(header: array_file.Header) -> NDArray[Any] | None:
    """Zeros of this shape that take no memory; None where only the data say what they are."""
    shape = [size for size in header.shape if isinstance(size, int)]
    try:
        kind = np.dtype("float32" if header.dtype == "bfloat16" else header.dtype)
    except TypeError:  # no type of numpy's: reading it says so
        return None
    return np.broadcast_to(np.zeros((), kind), shape) if len(shape) == len(header.shape) else None


def _divided(arrays: Arrays, path: Path) -> Arrays:
    """Rows of `features`, `labels`, ... as those of `train`, `train_labels`, ..., as `split` says."""
    split = np.char.lower(np.asarray(arrays.pop("split")).astype(str))
    if strange := sorted(set(split.ravel().tolist()) - set(SPLITS)):
        raise DataError(f"{path}: split: must be train or test. Got {strange[0]!r}. Rename it.")
    whole = {name: array for name, array in arrays.items() if name == "class_names"}
    rows = {name: array for name, array in arrays.items() if name not in whole}
    for name, array in rows.items():
        if split.ndim != 1 or array.shape[:1] != split.shape:
            rule = f"must be as many as the rows that split divides, {split.shape}"
            raise DataError(f"{path}: {name}: {rule}. Got {array.shape}. Mend the file.")
    parts = {
        f"{part}{SUFFIXES.get(name, f'_{name}')}": array[split == part]
        for part in SPLITS
        for name, array in rows.items()
    }
    return whole | parts


def as_features(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """(M, F) or (M, V, F) float32 of finite numbers, from floats of any width."""
    if array.dtype.kind != "f" or array.ndim not in (2, 3) or 0 in array.shape:
        rule = "must be floats (M, F), or (M, V, F) with V rows an image"
        raise DataError(f"{what}: {rule}. Got {array.dtype} {array.shape}. Convert them.")
    if not any(array.strides):  # zeros in place of features that were not read
        return np.broadcast_to(np.zeros((), np.float32), array.shape)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is told below
        features = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(features).all():
        rows = np.flatnonzero(~np.isfinite(features).reshape(len(features), -1).all(axis=1))
        got = f"{len(rows)} rows that are not, the first is row {rows[0]}"
        raise DataError(f"{what}: must be finite in float32. Got {got}. Leave them out.")
    return features


def as_labels(
    labels: Mapping[str, NDArray[Any]], names: NDArray[Any] | None, path: Path
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Key -> (M,) int64 labels, and the classes' names. -1, or an empty string, is no label.

    Args:
        labels: by key, all of one kind: whole numbers (M,) or (M, 1), strings (M,), or one-hot (M, C)
        names: (C,) the classes' names; without them, the strings in their order, or the numbers from 0 on
    """
    plain = {key: label_column.column(array, f"{path}: {key}") for key, array in labels.items()}
    if len({array.dtype.kind for array in plain.values()}) > 1:
        got = ", ".join(f"{key} {array.dtype}" for key, array in labels.items())
        raise DataError(f"{path}: labels must be of one kind. Got {got}. Convert them.")
    named = None if names is None else _names(names, path)
    if next(iter(plain.values())).dtype.kind == "U":
        known = sorted({str(word) for array in plain.values() for word in np.unique(array)} - {""})
        if named is not None and (strange := [word for word in known if word not in named]):
            raise DataError(f"{path}: class_names: must name every label. Got no {strange[0]!r}. Add it.")
        named = named or tuple(known)
        number = {word: at for at, word in enumerate(named)} | {"": -1}
        plain = {
            key: np.array([number[str(word)] for word in array], np.int64) for key, array in plain.items()
        }  # an image each: numpy has no look-up
    if named is None:
        largest = max(int(array.max(initial=-1)) for array in plain.values())
        if largest >= max(map(len, plain.values())):  # a stray label would make a million classes
            rule = "labels must count classes from 0, fewer than there are rows"
            raise DataError(f"{path}: {rule}. Got {largest}. Renumber them, or add class_names.")
        named = tuple(str(number) for number in range(largest + 1))
    return plain, named


def _names(names: NDArray[Any], path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "USiu" or not 0 < len(names) <= MAX_CLASSES:
        got = f"{names.dtype} {names.shape}"
        raise DataError(f"{path}: class_names: must be 1 to {MAX_CLASSES} names (C,). Got {got}. Save strings.")
    words = np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names
    named = tuple(map(str, words.tolist()))
    if (twice := files.twice(named)) is not None:
        raise DataError(f"{path}: class_names: must differ. Got {twice!r} twice. Rename one.")
    return named
