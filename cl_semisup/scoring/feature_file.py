"""Features that are there already, from a file or from arrays: a training and a test part with class indices."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_semisup.data import array_file, label_names
from cl_semisup.data.as_array import as_array, on_cpu
from cl_semisup.errors import DataError, InputError
from cl_semisup.scoring.label_values import Labels, to_classes
from cl_semisup.seeds import seed

TEST_FRACTION = 0.2
MAX_NAMED_ROWS = 8
# words in the names of arrays -> what they say
PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
KINDS = {
    **dict.fromkeys(("features", "feature", "feats", "embeddings", "embedding", "embeds", "x"), "features"),
    **dict.fromkeys(("labels", "label", "targets", "target", "y"), "labels"),
}
CONTENTS = "train, train_labels, test, test_labels, or features and labels"
LARGEST, SMALLEST = 1e15, 1e-12  # absolute values; float32 ends at 3.4e38, and 1e-12 bounds norms that divide
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """Features of a training and a test part, in the type that they are stored in, finite.

    Args:
        name: for tables
        train, test: (M, F) and (T, F) float16 to float64
        train_labels, test_labels: (M,) and (T,) classes from 0; -1 in train where unknown
        class_names: (C,)
    """

    name: str
    train: Tensor
    train_labels: Labels
    test: Tensor
    test_labels: Labels
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def content_hash(self) -> str:
        """12 hex digits of every number and label."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for tensor in (self.train, self.test):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
        for labels in (self.train_labels, self.test_labels):
            digest.update(labels.data)
        return digest.hexdigest()[:12]

    @cached_property
    def test_labels_hash(self) -> str:
        """12 hex digits of the test labels and the names of the classes."""
        return hashlib.sha256(repr(self.class_names).encode() + self.test_labels.tobytes()).hexdigest()[:12]


def read(path: Path, test_fraction: float | None = None) -> StoredFeatures:
    """The features of a file. Without a test part, `test_fraction` of the rows of each class become one (0.2)."""
    with array_file.opened(path) as container:
        names = _roles(container.headers, path)
        _check_roles(names, container.headers, path)
        array_file.require_memory(path, [container.headers[name] for name in names.values()])
        arrays = {role: container.read(name) for role, name in names.items()}
    places = {role: f"{path}: {name}" for role, name in names.items()}
    return from_arrays(path.stem, arrays, places, test_fraction)


def from_arrays(
    name: str, arrays: Mapping[str, Any], places: Mapping[str, str] | None = None, test_fraction: float | None = None
) -> StoredFeatures:
    """Features of arrays or tensors by role, as `_role` gives it; `places` says where each is from, for messages."""
    where = {role: role for role in arrays} | dict(places or {})
    if "features" in arrays:
        x = _matrix(arrays["features"], where["features"])
        _same_length(x, arrays["labels"], where["features"], where["labels"])
        (labels,), class_names = to_classes([(where["labels"], arrays["labels"])])
        test_rows = _split(arrays.get("split"), where.get("split", where["labels"]), labels, test_fraction)
        parts = (x[torch.from_numpy(~test_rows)], x[torch.from_numpy(test_rows)])
        train_labels, test_labels = labels[~test_rows], labels[test_rows]
    else:
        if test_fraction is not None:
            raise InputError(f"test_fraction: is for one matrix. Got {name}, which has a test part. Leave it out.")
        parts = (_matrix(arrays["train"], where["train"]), _matrix(arrays["test"], where["test"]))
        for part, x in zip(("train", "test"), parts, strict=True):
            _same_length(x, arrays[f"{part}_labels"], where[part], where[f"{part}_labels"])
        both = [(where[role], arrays[role]) for role in ("train_labels", "test_labels")]
        (train_labels, test_labels), class_names = to_classes(both)
        if parts[0].shape[1] != parts[1].shape[1]:
            rule = f"must have as many features as {where['train']}, {parts[0].shape[1]}"
            raise DataError(f"{where['test']}: {rule}. Got {parts[1].shape[1]}. Use one network for both.")
    known = test_labels >= 0
    if not known.all():
        what = where.get("test_labels", where.get("labels", "labels"))
        rows = name_rows(np.flatnonzero(~known))
        raise DataError(f"{what}: every test row needs a label. Got none in {rows}. Leave these rows out.")
    if not (train_labels >= 0).any():
        raise DataError(f"{name}: the training part needs a label. Got none. Add labels.")
    return StoredFeatures(name, parts[0], train_labels, parts[1], test_labels, class_names)


def _roles(names: Iterable[str], path: Path) -> dict[str, str]:
    """Role -> the name in the file of the array that has it."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_role(name), []).append(name)
    found.pop("", None)
    for several in found.values():
        if len(several) > 1:
            raise DataError(f"{path}: must hold one of {', '.join(several)}. Got {len(several)}. Leave out the others.")
    return {role: name for role, (name,) in found.items()}


def _role(name: str) -> str:
    """train, train_labels, test, test_labels, features, labels or split: what a name says, such as X_train; or ""."""
    words = name.lower().split("_")
    parts = [PARTS[word] for word in words if word in PARTS]
    kinds = [KINDS[word] for word in words if word in KINDS]
    if name == "split" or len(parts) + len(kinds) < len(words) or len(parts) > 1 or len(kinds) > 1:
        return name if name == "split" else ""
    if not parts:
        return kinds[0]
    return parts[0] if kinds in ([], ["features"]) else f"{parts[0]}_labels"


def _check_roles(names: Mapping[str, str], headers: Mapping[str, Any], path: Path) -> None:
    """A train and a test part, or one matrix, each with labels of the same length, by the headers alone."""
    divided, whole = ("train", "train_labels", "test", "test_labels"), ("features", "labels")
    needed = whole if {"features"} & names.keys() and "train" not in names else divided
    missing = [role for role in needed if role not in names]
    if missing:
        there = ", ".join(f"{name} {header.shape}" for name, header in headers.items()) or "no array"
        remedy = (
            "Name them: `np.savez(file, features=x, labels=y)`" if "arr_0" in headers else "Add them, or rename these"
        )
        raise DataError(f"{path}: must hold {CONTENTS}. Got no {', '.join(missing)}; there are {there:.500}. {remedy}.")
    extra = set(names) & set(divided if needed is whole else whole)
    if extra:
        got = ", ".join(sorted(names.values()))
        raise DataError(f"{path}: must hold {CONTENTS}, not both. Got {got}. Leave out the others.")


def _matrix(array: Any, where: str) -> Tensor:
    """(N, F) finite floats, as they are stored."""
    if isinstance(array, Tensor):
        x = on_cpu(array, where)
    else:
        array = as_array(array, where)
        if array.dtype.kind in "iub":
            array = array.astype(np.float32)
        if array.dtype.kind == "f" and not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype.kind != "f" or array.dtype.itemsize > 8:
            raise DataError(f"{where}: must be float16 to float64 (N, F). Got {array.dtype} {array.shape}. Convert it.")
        x = torch.from_numpy(np.require(array, requirements=("C", "W")))  # arrow's memory cannot be written to
    if x.dtype not in FLOATS or x.ndim != 2 or 0 in x.shape:
        rule = "must be float16 to float64 (N, F), with a row and a feature"
        remedy = "Make a row of each image: `x.reshape(len(x), -1)`, or a mean over its positions"
        remedy = remedy if x.ndim > 2 and 0 not in x.shape else "Convert it"
        raise DataError(f"{where}: {rule}. Got {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}. {remedy}.")
    largest = torch.cat([part.abs().amax(dim=1).float() for part in x.split(8192)])
    bad = ~torch.isfinite(largest)
    if bad.any():
        got = f"NaN, infinity or more in {name_rows(bad.nonzero().squeeze(1).numpy())}"
        raise DataError(f"{where}: must be finite in float32. Got {got}. Leave these rows out.")
    if (of_all := float(largest.max())) and not SMALLEST <= of_all <= LARGEST:
        rule = f"the largest value must lie from {SMALLEST:g} to {LARGEST:g}, whose squares float32 can add"
        remedy = "Multiply all rows of all parts by one number"
        raise DataError(f"{where}: {rule}. Got {of_all:.3g}. {remedy}.")
    return x


def _same_length(x: Tensor, labels: Any, where: str, where_labels: str) -> None:
    if (found := next(iter(as_array(labels, where_labels).shape), "a single one")) != len(x):
        raise DataError(f"{where_labels}: must be one a row of {where}, {len(x)}. Got {found}. Mend the file.")


def _split(split: Any, where: str, labels: Labels, test_fraction: float | None) -> np.ndarray:
    """(N,) bool: the rows of the test part, stored or drawn: stratified, seeded by nothing else than the labels."""
    if split is not None:
        if test_fraction is not None:
            rule = "divides the rows, so test_fraction must be left out"
            raise InputError(f"{where}: {rule}. Got {test_fraction:g}. Leave it out.")
        words = np.char.lower(label_names.of_objects(as_array(split, where), where))
        found = set(words.flat)
        others = sorted(found - set(PARTS))
        if words.shape != labels.shape or others or len({PARTS[word] for word in found}) < 2:
            got = ", ".join(others[:5]) or f"{words.shape}"
            remedy = "Rename them" + (': `np.where(split, "test", "train")`' if found == {"false", "true"} else "")
            raise DataError(f"{where}: must be `train` or `test`, and both. Got {got}. {remedy}.")
        return np.isin(words, [word for word, part in PARTS.items() if part == "test"])
    fraction = TEST_FRACTION if test_fraction is None else test_fraction
    if not 0 < fraction < 1:
        raise InputError(f"test_fraction: must lie between 0 and 1. Got {fraction:g}.")
    random, test = np.random.default_rng(seed("test part")), np.zeros(len(labels), dtype=bool)
    for label in range(int(labels.max()) + 1):
        members = random.permutation(np.flatnonzero(labels == label))
        test[members[: min(len(members) - 1, int(fraction * len(members) + 0.5))]] = True
    if not test.any():
        raise InputError(
            f"{where}: test_fraction must leave a test row. Got {fraction:g} of {len(labels)} rows. Raise it."
        )
    return test


def name_rows(indices: np.ndarray) -> str:
    """`3 rows: 4, 17, 99`"""
    named = ", ".join(map(str, indices[:MAX_NAMED_ROWS].tolist()))
    more = ", ..." if len(indices) > MAX_NAMED_ROWS else ""
    return f"{len(indices)} row{'s' if len(indices) > 1 else ''}: {named}{more}"
