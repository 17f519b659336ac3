import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Interval, MinLen
from numpy.typing import NDArray

from cl_semisup.data import splits
from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images, facts_of
from cl_semisup.datasets import _class_folders, _mapped, _pixels, _sources, _table
from cl_semisup.datasets._mapped import Part
from cl_semisup.errors import DataError


@dataclass(frozen=True)
class ImageFolder(_pixels.PixelSettings):
    """Your own images, a folder a class: `<folder>/train/<class>/*` and `<folder>/test/<class>/*` (or `val`).

    The classes are train's sub-folders in the order of their names; test may lack some. The parts may also be called
    training, testing, valid, validation or dev, and begin with a capital letter. Every file but hidden ones and what
    systems leave behind (`Thumbs.db`, `desktop.ini`, `__MACOSX`) must be an image. It becomes RGB (16-bit grey scaled
    to 8 bit, transparency dropped) and its centre square is resized to the side, bilinear and antialiased. All files
    below `<folder>/unlabelled`, at any depth, are training images without a label. With `test_fraction` or `folds`
    there is no test part, and the classes may lie in the folder itself. If `test` holds no class of train, `val` is the
    test part.

    The pixels are kept beside `train` as `.cl_semisup-<side>-<part>-<signature>.npy` (M * 3 * side * side bytes), which
    is read from disk as needed and may be deleted at any time. It is used only by the user who made it, and only while
    no file has changed. In a read-only folder, images are decoded into memory at every start. The views are those of
    natural images (crops down to a fifth of the area, mirroring, colour changes, no blur): change them if they would
    change an image's class.

    Source: None

    Args:
        folder: the folder that holds `train`, relative to data_dir
        test_fraction: share of each class that is the test part, drawn once and the same for all runs
        folds: the images are tested in so many folds, repetition r testing fold r mod folds
        classes: a text file with a class a line, relative to data_dir; other classes are left out
        nested: class folders may hold folders of images; the class is that of the first level
        val: what a `val` beside `test` is for: tuning (validate), or training (merge); else it is not used
    """

    folder: Annotated[str, MinLen(1)]
    test_fraction: Annotated[float, Interval(ge=0.01, le=0.9)] | None = None
    folds: Annotated[int, Interval(ge=2, le=1000)] | None = None
    val: Literal["validate", "merge"] | None = None
    classes: Annotated[str, MinLen(1)] | None = None
    nested: bool | None = None

    def facts(self, data_dir: Path) -> Facts:
        found = self._find(data_dir)
        train, test = found.train.labels, np.zeros(0, np.int64) if found.test is None else found.test.labels
        if found.fold is not None:
            train, test = train[found.fold != 0], train[found.fold == 0]
        return facts_of(train, test, found.classes, self.bands, self.side)

    def layout(self, data_dir: Path) -> Layout:
        return self._find(data_dir).layout

    def prepare(self, data_dir: Path, download: bool) -> None:
        """Decode all images into the cache, so that a broken file is found before anything runs."""
        faults: list[DataError] = []
        found = self._find(data_dir)
        for part, settings in self._wanted(found):
            _mapped.pixels(part, settings, found.train, faults, "image_folder", keep=False)
        _mapped.require_none(faults, "image_folder")

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        if not os.path.lexists(_sources.inside(data_dir, self.folder, "image_folder: folder")):
            return ()
        lists = [_sources.inside(data_dir, self.classes, "image_folder: classes")] if self.classes else []
        return (*lists, *(path for part in self._find(data_dir).parts() for path in part.paths()))

    def load(self, data_dir: Path) -> Images:
        found, faults = self._find(data_dir), list[DataError]()
        train, *others = (
            _mapped.pixels(part, settings, found.train, faults, "image_folder")
            for part, settings in self._wanted(found)
        )
        _mapped.require_none(faults, "image_folder")
        larger = others.pop() if self.larger else None
        test = others.pop(0) if found.test else train[:0]
        test_labels = found.test.labels if found.test else found.train.labels[:0]
        val, val_labels = (others.pop(0), found.val.labels) if found.val else (None, None)
        own = (train, found.train.labels, test, test_labels, found.classes)
        images = Images(*own, val_images=val, val_labels=val_labels, fold=found.fold, split=found.split)
        return replace(images, larger_images=larger)

    def _wanted(self, found: "_Found") -> list[tuple[Part, _pixels.PixelSettings]]:
        """The parts and how they are stored; the training images at a larger side are last."""
        larger = [(found.train, self.larger)] if self.larger else []
        return [*((part, self.pixel_settings) for part in found.parts()), *larger]

    def _find(self, data_dir: Path) -> "_Found":
        root = _sources.inside(data_dir, self.folder, "image_folder: folder")
        if self.test_fraction and self.folds:
            raise DataError(f"image_folder: {root}: test_fraction and folds exclude each other. Got both. Keep one.")
        folders = _class_folders.parts(root)
        own = folders.pop("train", None)
        if self.test_fraction or self.folds:
            if own is None or not _holds_folders(own):  # a class may be called train
                own, folders = root, {part: path for part, path in folders.items() if part == "unlabelled"}
        elif own is None or not own.is_dir():
            raise DataError(_class_folders.no_part(root, "train"))
        unlabelled = folders.pop("unlabelled", None)
        held = [e for e in _class_folders.entries(own) if own != root or root / e.name != unlabelled]
        _class_folders.require_folders(own, held)
        classes = self._chosen(data_dir, tuple(entry.name for entry in held))
        layout = _Notes(root, own, (*folders.values(), *([unlabelled] if unlabelled else [])))
        layout.links(own, [path for path in (own, unlabelled, *folders.values()) if path], data_dir)
        test_folder = root if self.test_fraction or self.folds else layout.test_folder(folders, classes)
        name = "all" if own == root else "train"
        train = _class_folders.list_part(root, own, classes, name, nested=bool(self.nested))
        labelled = len(train.files)
        train = _class_folders.with_unlabelled(train, root, unlabelled)
        if unlabelled and len(train.files) == labelled:
            layout.notes.append(f"{unlabelled.name} holds no file.")
        if self.test_fraction or self.folds:
            return self._split(root, own, classes, train, folders, layout)
        test = _class_folders.list_labelled(root, test_folder, own, classes, layout.test_name, bool(self.nested))
        val_folder = folders["val"] if "val" in folders and test_folder != folders["val"] else None
        train, val = self._validation(root, own, classes, train, val_folder, layout)
        return _Found(classes, train, test, val, None, "", layout.layout(classes))

    def _chosen(self, data_dir: Path, known: tuple[str, ...]) -> tuple[str, ...]:
        """All classes, or those of the list."""
        if not self.classes:
            return known
        path = _sources.inside(data_dir, self.classes, "image_folder: classes")
        return _table.class_list(path, set(known), "image_folder: classes")

    def _validation(
        self, root: Path, own: Path, classes: tuple[str, ...], train: Part, folder: Path | None, layout: "_Notes"
    ) -> tuple[Part, Part | None]:
        """The training part, with `val` if it is merged, and the validation part if it is used as such."""
        if folder is None and self.val:
            rule, remedy = f"needs {root}/val beside a test part", "Add it, or leave out `val` and `validation: own`"
            got = f"{self.val!r} and no such folder"
            if layout.test_name == "val":
                got = f"{self.val!r}, and the test part is {layout.test}"
                remedy = "Set `test_fraction: 0.2`, or leave out `val` and `validation: own`"
            raise DataError(f"image_folder: val: {rule}. Got {got}. {remedy}.")
        if folder is None:
            return train, None
        if self.val is None:
            layout.ignore_val(folder)
            return train, None
        part = _class_folders.list_labelled(root, folder, own, classes, "val", bool(self.nested))
        if self.val == "validate":
            layout.validation = f"its own val, {len(part.files):,} images"
            return train, part
        layout.notes.append(f"val is merged: {len(part.files):,} of its images train.")
        labels = np.concatenate([train.labels, part.labels])
        return Part(root, "trainval", train.files + part.files, labels), None

    def _split(
        self, root: Path, own: Path, classes: tuple[str, ...], train: Part, folders: dict[str, Path], layout: "_Notes"
    ) -> "_Found":
        """The parts of a folder that has no test part."""
        setting = "test_fraction" if self.test_fraction else "folds"
        if "test" in folders:
            rule = f"is for data without a test part: {root} holds one"
            raise DataError(f"image_folder: {setting}: {rule}. Got {folders['test']}. Leave {setting} out, or move it.")
        train, val = self._validation(root, own, classes, train, folders.get("val"), layout)
        if self.folds:
            fold = splits.folds(train.labels, self.folds, "image_folder", self.folder)
            layout.test = f"{self.folds} folds, repetition r tests fold r mod {self.folds}"
            return _Found(classes, train, None, val, fold, splits.fingerprint(fold), layout.layout(classes))
        assert self.test_fraction is not None
        tested = splits.test_rows(train.labels, self.test_fraction, "image_folder", self.folder)
        split, share = splits.fingerprint(tested), f"{self.test_fraction:g}"
        layout.test = f"{share} of each class, split {split}"
        test = train.rows(f"test{share}", tested)
        return _Found(classes, train.rows(f"train{share}", ~tested), test, val, None, split, layout.layout(classes))


class _Found(NamedTuple):
    """The parts of a folder, as files."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    val: Part | None
    fold: NDArray[np.int64] | None
    split: str
    layout: Layout

    def parts(self) -> list[Part]:
        return [part for part in (self.train, self.test, self.val) if part is not None]


class _Notes:
    """Collects what is told of a folder."""

    def __init__(self, root: Path, own: Path, used: Sequence[Path]):
        known = {own.name, *(path.name for path in used)}
        self.unused = [e.name for e in _class_folders.entries(root) if e.name not in known] if own != root else []
        self.root, self.test, self.validation, self.notes = root, "", "", list[str]()
        self.test_name = "test"  # of its mapped file

    def test_folder(self, folders: dict[str, Path], classes: tuple[str, ...]) -> Path:
        """`test`, or `val` where there is no `test` or one without any class of train."""
        for path in folders.values():
            if not path.is_dir():
                got = "a link to no folder" if path.is_symlink() else "a file"
                raise DataError(f"image_folder: {path} must be a folder of images. Got {got}. Mend or remove it.")
        if not folders:
            raise DataError(_class_folders.no_part(self.root, "test or val"))
        if "test" in folders and "val" in folders:
            in_test, in_val = (
                {e.name for e in _class_folders.entries(folders[part])} & set(classes) for part in ("test", "val")
            )
            if not in_test and in_val:
                self.unused.append(folders["test"].name)
                self.test_name = "val"
                self.test = f"{folders['val'].name}, because {folders['test'].name} holds no class folder of train"
                return folders["val"]
        if "test" in folders:
            return folders["test"]
        self.test_name, self.test = "val", f"{folders['val'].name}, as there is no test"
        return folders["val"]

    def links(self, own: Path, parts: Sequence[Path], data_dir: Path) -> None:
        """Parts and class folders may be links, also out of data_dir, which is told."""
        links = [entry.name for entry in _class_folders.entries(own) if entry.is_symlink()]
        inside = os.path.realpath(data_dir)
        for path in parts:
            where = os.path.realpath(path)
            if path.is_symlink() and os.path.commonpath([where, inside]) != inside:
                self.notes.append(f"{path.name} is a link out of data_dir, to {where!r}.")
        outside = [name for name in links if os.path.commonpath([os.path.realpath(own / name), inside]) != inside]
        if outside and not own.is_symlink():
            where = os.path.realpath(own / outside[0])
            self.notes.append(f"{len(outside)} classes are links out of data_dir: {outside[0]!r} is {where!r}.")

    def ignore_val(self, folder: Path) -> None:
        self.unused.append(folder.name)
        remedy = "Set `validation: own` to tune on it, or `val: merge` to train on it"
        self.notes.append(f"{folder.name} is not used. {remedy}.")

    def layout(self, classes: tuple[str, ...]) -> Layout:
        return Layout(classes, self.test, self.validation, tuple(self.unused), tuple(self.notes))


def _holds_folders(folder: Path) -> bool:
    return folder.is_dir() and any(os.path.isdir(entry) for entry in _class_folders.entries(folder))
