"""The user's own arrays in one `.npz`: which parts it holds, what makes a test part, and what is refused."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_semisup.data import splits
from cl_semisup.data.description import Layout
from cl_semisup.data.images import MAX_CHANNELS, Facts, Images, facts_of
from cl_semisup.datasets import _arrays_pixels, _labels, _sources, _table
from cl_semisup.errors import DataError, first_ten

PARTS = ("train", "test", "val")
UNLABELLED = "unlabelled_images"
KINDS = {
    **dict.fromkeys(("images", "image", "x", "data", "features"), "images"),
    **dict.fromkeys(("labels", "label", "y", "target", "targets"), "labels"),
}
TO_BYTES = '`(255 * x).round().astype("uint8")` if they lie in 0..1, or `x.astype("uint8")` if in 0..255'
RENUMBER = "`names, labels = np.unique(labels, return_inverse=True)`"


@dataclass(frozen=True)
class Choices:
    """What the settings of a data set ask of an archive; see `arrays`."""

    name: str
    test_fraction: float | None = None
    folds: int | None = None
    val: str | None = None
    white: float | str | None = None


def read(path: Path, choices: Choices, pixels: bool = True) -> tuple[Images, Layout]:
    """The images of an archive. Without `pixels` they are zeros that take no memory, and no split is made of them."""
    with _sources.opened_archive(path) as archive:
        own_names = [name.removesuffix(".npy") for name in archive.namelist()]
        called = _called(own_names)
        used = _used(called, own_names, choices, path)
        headers = {name: _header(archive, called[name], path) for name in used}
        _check_sizes(headers, path)
        arrays = {
            name: _sources._array(archive, called[name], headers[name], pixels or "images" not in name) for name in used
        }
    unused = tuple(name for name in own_names if name not in [called[name] for name in used])
    notes: tuple[str, ...] = ()
    if called.get("val_images") in unused:
        notes = ("val_images are not used. Set `validation: own` to tune on them, or `val: merge` to train on them.",)
    return _images(arrays, choices, path, pixels, Layout(unused=unused, notes=notes))


def facts(path: Path, choices: Choices) -> tuple[Facts, Layout]:
    """Sizes and layout, from headers and labels alone."""
    images, layout = read(path, choices, pixels=False)
    if not choices.test_fraction:
        return images.facts(), layout
    labels, (_, channels, side, _) = images.train_labels, images.train_images.shape
    tested = splits.test_rows(labels, choices.test_fraction, "arrays", choices.name)
    return facts_of(labels[~tested], labels[tested], images.class_names, channels, side), layout


def _header(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    """What the header of an array says; of pickled strings, how to save them otherwise."""
    try:
        return _sources._header(archive, name, path)
    except DataError as error:
        if "pickled objects" not in str(error):
            raise
        raise DataError(f"{error} Text is saved by `{name}.astype(str)`.") from None


def _called(own_names: list[str]) -> dict[str, str]:
    """The name of an array, such as train_images -> what it is called in the file: that, or a name that says the same.

    These are Keras' x_train, X_train, train_x, images_val, and images or x alone, which are for training.
    """
    called = {name: name for name in own_names}
    for own in own_names:
        words = own.lower().split("_")
        kinds = [KINDS[word] for word in words if word in KINDS]
        parts = [_table.SPLITS[word] for word in words if word in _table.SPLITS]
        if {"unlabelled", "unlabeled"} & set(words):
            called.setdefault(UNLABELLED, own)
        elif len(kinds) == 1 and len(kinds) + len(parts) == len(words) < 3:
            called.setdefault(f"{parts[0] if parts else 'train'}_{kinds[0]}", own)
        elif own.lower() in ("class_names", "label_names"):
            called.setdefault("classes", own)
    return called


def _used(held: Mapping[str, str], own_names: list[str], choices: Choices, path: Path) -> list[str]:
    """The names of the arrays to read; DataError if one is missing or there is a test part that settings forbid."""
    splitting = "test_fraction" if choices.test_fraction else "folds" if choices.folds else ""
    if choices.test_fraction and choices.folds:
        raise DataError(f"{path}: test_fraction and folds exclude each other. Got both. Keep one.")
    if splitting and "test_images" in held:
        rule = "is for data without a test part"
        raise DataError(f"{path}: {splitting} {rule}. Got test_images. Leave {splitting} out, or the array.")
    parts = ["train", *([] if splitting else ["test"]), *(["val"] if choices.val else [])]
    needed = [f"{part}_{kind}" for kind in ("images", "labels") for part in parts]
    if missing := [name for name in needed if name not in held]:
        remedy = "Add them"
        if missing == ["test_images", "test_labels"]:
            remedy += ", or set `test_fraction: 0.2`"
        if any(name.startswith("val") for name in missing):
            remedy += ", or leave out `val` and `validation: own`"
        if "arr_0" in own_names:
            remedy = "Give them names: `np.savez(file, train_images=x, train_labels=y)`"
        got = f"Got no {', '.join(missing)} among {first_ten(own_names)}"
        raise DataError(f"{path}: must hold arrays {_sources.CONTENTS}. {got}. {remedy}.")
    return [*needed, *(name for name in (UNLABELLED, "classes") if name in held)]


def _check_sizes(headers: dict[str, Any], path: Path) -> None:
    """As many labels as images in each part, and all arrays in memory, before any is read."""
    for part in PARTS:
        shape: tuple[int, ...] = headers[f"{part}_labels"].shape if f"{part}_labels" in headers else ()
        if shape[:1] == (1,) and len(shape) == 2 and headers[f"{part}_images"].shape[:1] != (1,):
            raise DataError(f"{path}: {part}_labels: must be (M,) or (M, 1). Got {shape}. Save `labels.ravel()`.")
        images = headers[f"{part}_images"].shape if f"{part}_images" in headers else ()
        if images and shape and images[0] != shape[0]:
            remedy = "Leave out the images without one" + (", or give them -1" if part == "train" else "")
            if shape[0] == images[-1]:
                order = len(images) - 1, *range(len(images) - 1)
                remedy = f"Images come first: `x.transpose{order}`"
            got = f"{shape[:1]} labels, {images[0]} images"
            raise DataError(f"{path}: {part}: one label an image. Got {got}. {remedy}.")
    _sources._check_headers(_as_two_parts(headers), path)


def _as_two_parts(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers with a test part, which the check of published archives expects."""
    empty = {name: _sources._Header((0,), np.dtype(np.uint8)) for name in ("test_images", "test_labels")}
    return empty | headers


def _images(
    arrays: dict[str, NDArray[Any]], choices: Choices, path: Path, pixels: bool, layout: Layout
) -> tuple[Images, Layout]:
    names = [part for part in PARTS if f"{part}_labels" in arrays]
    images = {name: arrays[name] for name in (*(f"{part}_images" for part in names), UNLABELLED) if name in arrays}
    arrays = arrays | _arrays_pixels.as_bytes(images, choices.white, str(path))
    where = [f"{path}: {part}_labels" for part in names]
    columns = [_labels.column(arrays[f"{part}_labels"], what) for part, what in zip(names, where, strict=True)]
    names_in_file = arrays.get("classes")
    numbers, by_name = _labels.all_numbers(
        columns, None if names_in_file is None else list(map(str, names_in_file.tolist())), where
    )
    labels = dict(zip(names, numbers, strict=True))
    _require_known(labels, path)
    images_by_part = {part: _channels_first(arrays[f"{part}_images"], f"{path}: {part}_images") for part in names}
    both = (labels["train"], np.concatenate([labels[part] for part in names[1:] or ["train"]]))
    classes = by_name if by_name is not None else _class_names(names_in_file, *both, path)
    if UNLABELLED in arrays:
        unlabelled = _channels_first(arrays[UNLABELLED], f"{path}: {UNLABELLED}")
        labels["train"] = _appended(images_by_part, "train", labels["train"], unlabelled, None, path)
    layout = Layout(classes, unused=layout.unused, notes=layout.notes)
    if choices.val == "merge":
        count = len(labels["val"])
        labels["train"] = _appended(
            images_by_part, "train", labels["train"], images_by_part.pop("val"), labels.pop("val"), path
        )
        layout = _changed(layout, notes=(*layout.notes, f"val is merged: {count:,} of its images train."))
    elif choices.val:
        layout = _changed(layout, validation=f"its own val, {len(labels['val']):,} images")
    fold, split = None, ""
    if choices.folds:
        fold = splits.folds(labels["train"], choices.folds, "arrays", choices.name)
        split = splits.fingerprint(fold)
        layout = _changed(layout, test=f"{choices.folds} folds, repetition r tests fold r mod {choices.folds}")
    if choices.test_fraction:
        tested = splits.test_rows(labels["train"], choices.test_fraction, "arrays", choices.name)
        split = splits.fingerprint(tested)
        layout = _changed(layout, test=f"{choices.test_fraction:g} of each class, split {split}")
        if pixels:
            images_by_part["train"], images_by_part["test"] = (
                images_by_part["train"][~tested],
                images_by_part["train"][tested],
            )
            labels["train"], labels["test"] = labels["train"][~tested], labels["train"][tested]
        else:  # the zeros would take memory
            images_by_part["test"], labels["test"] = images_by_part["train"], np.maximum(labels["train"], 0)
    images_by_part.setdefault("test", images_by_part["train"][:0])
    labels.setdefault("test", labels["train"][:0])
    if pixels:  # a copy of the zeros would take the memory of the images
        images_by_part = {part: np.ascontiguousarray(images) for part, images in images_by_part.items()}
    own = (images_by_part["train"], labels["train"], images_by_part["test"], labels["test"], classes)
    try:
        return Images(
            *own, val_images=images_by_part.get("val"), val_labels=labels.get("val"), fold=fold, split=split
        ), layout
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _require_known(labels: Mapping[str, NDArray[np.int64]], path: Path) -> None:
    """DataError for labels below -1, and for images outside training that have none."""
    for part, found in labels.items():
        lowest = -1 if part == "train" else 0
        if len(strange := np.unique(found[found < lowest])):
            rule = f"{part}: labels must count classes from 0" + (", or be -1 for none" if part == "train" else "")
            remedy = "`np.maximum(labels, -1)` takes all of them for none"
            if part != "train":
                remedy = "Leave these images out: `x[labels >= 0]`, `labels[labels >= 0]`"
            raise DataError(f"{path}: {rule}. Got {first_ten(strange.tolist())}. {remedy}.")


def _changed(layout: Layout, **changes: Any) -> Layout:
    return Layout(**{**vars(layout), **changes})


def _appended(
    images_by_part: dict[str, NDArray[np.uint8]],
    part: str,
    labels: NDArray[np.int64],
    more: NDArray[np.uint8],
    more_labels: NDArray[np.int64] | None,
    path: Path,
) -> NDArray[np.int64]:
    """Put more images behind those of a part, and return its labels; -1 for images that bring none."""
    if images_by_part[part].shape[1:] != more.shape[1:]:
        what = f"{UNLABELLED if more_labels is None else 'val_images'} must be as large as {part}_images"
        raise DataError(f"{path}: {what}, {images_by_part[part].shape[1:]}. Got {more.shape[1:]}. Resize them.")
    if any(images_by_part[part].strides):
        images_by_part[part] = np.concatenate([images_by_part[part], more])
    else:  # zeros that take no memory
        count = len(images_by_part[part]) + len(more)
        images_by_part[part] = np.broadcast_to(np.zeros((), np.uint8), (count, *more.shape[1:]))
    added = np.full(len(more), -1, np.int64) if more_labels is None else more_labels
    return np.concatenate([labels, added])


def _channels_first(images: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """(M, channels, side, side), a view."""
    if (found := _arrays_pixels.channels_first(images)) is not None:
        return found
    rule = "must be uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side) with"
    rule += f" 1 to {MAX_CHANNELS} channels"
    if images.dtype != np.uint8:
        raise DataError(f"{what}: {rule}. Got {images.dtype} {images.shape}. Convert them: {TO_BYTES}; or set `white`.")
    raise DataError(f"{what}: {rule}. Got {images.dtype} {images.shape}. {_arrays_pixels.remedy(images.shape)}.")


def _class_names(
    names: NDArray[Any] | None, train: NDArray[np.int64], test: NDArray[np.int64], path: Path
) -> tuple[str, ...]:
    if names is None:
        strange = np.unique(np.concatenate([train[train >= len(train)], test[test >= len(train)]]))
        if len(strange):
            rule = f"labels must count classes from 0, fewer than the {len(train)} training images"
            remedy = f"Renumber them with {RENUMBER}, or name the classes in an array `classes`"
            raise DataError(f"{path}: {rule}. Got {first_ten(strange.tolist())}. {remedy}.")
    elif names.ndim == 1 and names.dtype.kind in "USiu":
        for part, labels in (("train", train), ("test", test)):
            lowest = -1 if part == "train" else 0
            if len(strange := np.unique(labels[(labels < lowest) | (labels >= len(names))])):
                rule = f"labels must lie in {lowest}..{len(names) - 1}, as there are {len(names)} names in `classes`"
                remedy = f"Renumber them with {RENUMBER}"
                raise DataError(f"{path}: {part}: {rule}. Got {first_ten(strange.tolist())}. {remedy}.")
    return _sources._class_names(names, train, test, path)
