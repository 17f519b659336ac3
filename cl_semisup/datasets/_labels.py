"""Labels in the forms that people have: numbers in one column or two, whole floats, one-hot rows, names."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import label_names
from cl_semisup.errors import DataError, first_ten

MAX_CLASSES = 1_000_000
WHOLE = re.compile(r"-?[0-9]+(\.0*)?")
RENUMBER = "np.unique(labels, return_inverse=True)[1]"


def numbers(
    train: NDArray[Any], test: NDArray[Any], names: Sequence[str] | None, where: tuple[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Labels of both parts as int64 (M,), and the classes' names.

    Names become numbers in the order of `names`, or sorted; an empty name is -1, an image without a label. Without
    `names`, classes that are numbers are called by them.

    Args:
        train, test: (M,), (M, 1) or one-hot (M, C) labels of the same form
        names: the classes in their order, if they are told elsewhere
        where: what messages call the two arrays
    """
    (train, test), known = all_numbers([column(train, where[0]), column(test, where[1])], names, where)
    if known is not None:
        return train, test, known
    largest = max(int(labels.max(initial=-1)) for labels in (train, test))
    if names is None and largest >= len(train):  # a stray label would make a million classes
        rule = f"must count classes from 0, fewer than the {len(train)} training images"
        raise DataError(f"{where[0]}, {where[1]}: {rule}. Got {largest}. Renumber them: {RENUMBER}.")
    return train, test, tuple(names) if names is not None else tuple(map(str, range(largest + 1)))


def all_numbers(
    columns: Sequence[NDArray[Any]], names: Sequence[str] | None, where: Sequence[str]
) -> tuple[list[NDArray[np.int64]], tuple[str, ...] | None]:
    """Columns as `column` gives them, train first, as int64 (M,), and the classes' names if they are told by them."""
    if not any(labels.dtype.kind == "U" for labels in columns):
        return [labels.astype(np.int64) for labels in columns], None
    texts = [labels.astype(str) for labels in columns]
    known = tuple(names) if names is not None else tuple(sorted(set(texts[0].tolist()) - {""}))
    return [_of_names(labels, known, what) for labels, what in zip(texts, where, strict=True)], known


def of_text(
    train: Sequence[str], test: Sequence[str], names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """The same of labels in a text file: if all are whole numbers, also 1.0, -1 is none and 10 comes after 9."""
    if names is None and all(WHOLE.fullmatch(label) for label in (*train, *test) if label):
        train, test = ([label.partition(".")[0] for label in part] for part in (train, test))
        train = ["" if label == "-1" else label for label in train]
        names = sorted({label for label in train if label}, key=int)
    of_parts = f"{where}: train", f"{where}: test"
    arrays = [label_names.array(part, what) for part, what in zip((train, test), of_parts, strict=True)]
    return numbers(arrays[0], arrays[1], names, of_parts)


def column(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """(M,) whole numbers or names."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.ndim == 2 and labels.dtype.kind in "iufb":
        return _of_one_hot(labels, where)
    if labels.ndim != 1 or labels.dtype.kind not in "iufbU":
        rule = "must be one label an image: numbers or names (M,), or one-hot rows (M, C)"
        raise DataError(f"{where}: {rule}. Got {labels.dtype} {labels.shape}. Convert them.")
    if labels.dtype.kind == "f":
        broken = np.flatnonzero(~np.isfinite(labels) | (np.rint(labels) != labels))
        if len(broken):
            got = f"{len(broken)} that are not, such as {first_ten([float(labels[n]) for n in broken])}"
            remedy = "Mend them; an image without a label has -1: np.nan_to_num(labels, nan=-1)"
            raise DataError(f"{where}: must be whole numbers. Got {got}. {remedy}.")
    return labels


def _of_one_hot(rows: NDArray[Any], where: str) -> NDArray[np.int64]:
    """(M,) the place of the one in each row."""
    ones, zeros = (rows == 1).sum(axis=1), (rows == 0).sum(axis=1)
    broken = np.flatnonzero((ones != 1) | (ones + zeros != rows.shape[1]))
    if len(broken):
        several = f"{int((ones > 1).sum())} rows with several ones and {int((ones == 0).sum())} without"
        got = f"{several}; rows {first_ten(broken.tolist())}"
        remedy = "A run needs one class an image: labels.argmax(axis=1)"
        raise DataError(f"{where}: must have a single 1 in every row, and 0 beside it. Got {got}. {remedy}.")
    return rows.argmax(axis=1).astype(np.int64)


def _of_names(labels: NDArray[Any], classes: Sequence[str], where: str) -> NDArray[np.int64]:
    """(M,) numbers of names; "" is -1."""
    number = {name: n for n, name in enumerate(classes)} | {"": -1}
    unknown = sorted(set(labels.tolist()) - set(number))
    if unknown:
        rule = "must be classes of the training images"
        forms = {unicodedata.normalize("NFC", name): name for name in classes}
        if same := forms.get(unicodedata.normalize("NFC", unknown[0])):
            got = f"Got {unknown[0]!a}, where train has {same!a}"
            remedy = "Write both in one Unicode normal form: `unicodedata.normalize('NFC', label)`"
            raise DataError(f"{where}: {rule}. {got}. {remedy}.")
        raise DataError(f"{where}: {rule}. Got {first_ten(unknown)}. Mend them, or name all classes.")
    return np.array([number[name] for name in labels.tolist()], np.int64)
