import os
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Interval, MinLen
from numpy.typing import NDArray

from cl_semisup.data import splits
from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images, facts_of
from cl_semisup.datasets import _mapped, _pixels, _sources, _table
from cl_semisup.datasets._mapped import Part
from cl_semisup.errors import DataError, first_ten

PASSED_OVER = ("thumbs.db", "desktop.ini", "__macosx")  # what systems leave in folders, beside hidden files
UNLABELLED = "unlabelled"
RULE = "must hold train/<class>/* and test/<class>/* (or val)"


@dataclass(frozen=True)
class ImageFolder(_pixels.PixelSettings):
    """Your own images, a folder a class: `<folder>/train/<class>/*` and `<folder>/test/<class>/*` (or `val`).

    The classes are train's sub-folders in the order of their names; test may lack some. Every file but hidden ones,
    `Thumbs.db`, `desktop.ini` and `__MACOSX` must be an image. It becomes RGB (16-bit grey scaled to 8 bit,
    transparency dropped) and its centre square is resized to the side, bilinear and antialiased. All files below
    `<folder>/unlabelled`, at any depth, are training images without a label. With `test_fraction` or `folds` there is
    no test part, and the classes may lie in the folder itself. If `test` holds no class of train, `val` is the test
    part.

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
        splitting = bool(self.test_fraction or self.folds)
        own = root / "train"
        if splitting and not os.path.lexists(own):
            own = root
        elif not own.is_dir():
            raise DataError(_no_part(root, "train"))
        folders = {name: root / name for name in ("test", "val") if own != root and os.path.lexists(root / name)}
        known = tuple(entry.name for entry in _entries(own) if own != root or entry.name != UNLABELLED)
        classes = self._chosen(data_dir, known)
        layout = _Notes(root, own)
        layout.links(own, data_dir)
        test_folder = root if splitting else layout.test_folder(folders, classes)
        train = _with_unlabelled(_list_part(root, own, classes, nested=bool(self.nested)), root)
        if splitting:
            return self._split(root, classes, train, folders, layout)
        test = _list_labelled(root, test_folder, own, classes, bool(self.nested))
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
            rule = f"needs {root}/val beside a test part"
            raise DataError(
                f"image_folder: val: {rule}. Got {self.val!r} and no such folder. Add it, or leave val out."
            )
        if folder is None:
            return train, None
        if self.val is None:
            layout.ignore_val()
            return train, None
        part = _list_labelled(root, folder, own, classes, bool(self.nested))
        if self.val == "validate":
            layout.validation = f"its own val, {len(part.files):,} images"
            return train, part
        layout.notes.append(f"val is merged: {len(part.files):,} of its images train.")
        labels = np.concatenate([train.labels, part.labels])
        return Part(root, "trainval", train.files + part.files, labels), None

    def _split(
        self, root: Path, classes: tuple[str, ...], train: Part, folders: dict[str, Path], layout: "_Notes"
    ) -> "_Found":
        """The parts of a folder that has no test part."""
        setting = "test_fraction" if self.test_fraction else "folds"
        if "test" in folders:
            rule = f"is for data without a test part: {root} holds one"
            raise DataError(f"image_folder: {setting}: {rule}. Got {folders['test']}. Leave {setting} out, or move it.")
        train, val = self._validation(root, root / "train", classes, train, folders.get("val"), layout)
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

    def __init__(self, root: Path, own: Path):
        known = ("train", "test", "val", UNLABELLED)
        self.unused = [e.name for e in _entries(root) if e.name not in known] if own != root else []
        self.root, self.test, self.validation, self.notes = root, "", "", list[str]()

    def test_folder(self, folders: dict[str, Path], classes: tuple[str, ...]) -> Path:
        """`test`, or `val` where there is no `test` or one without any class of train."""
        for path in folders.values():
            if not path.is_dir():
                raise DataError(_no_part(self.root, "test or val"))
        if not folders:
            raise DataError(_no_part(self.root, "test or val"))
        if "test" in folders and "val" in folders:
            in_test, in_val = ({e.name for e in _entries(path)} & set(classes) for path in folders.values())
            if not in_test and in_val:
                self.unused.append("test")
                self.test = "val, because test holds no class folder of train"
                return folders["val"]
        self.test = "" if "test" in folders else "val, as there is no test"
        return folders.get("test", folders.get("val", self.root))

    def links(self, own: Path, data_dir: Path) -> None:
        """Class folders may be links, also out of data_dir, which is told."""
        links = [entry.name for entry in _entries(own) if entry.is_symlink()]
        inside = os.path.realpath(data_dir)
        outside = [name for name in links if os.path.commonpath([os.path.realpath(own / name), inside]) != inside]
        if outside:
            where = os.path.realpath(own / outside[0])
            self.notes.append(f"{len(outside)} classes are links out of data_dir: {outside[0]!r} is {where!r}.")

    def ignore_val(self) -> None:
        self.unused.append("val")
        self.notes.append("val is not used. Set `val: validate` to tune on it, or `val: merge` to train on it.")

    def layout(self, classes: tuple[str, ...]) -> Layout:
        return Layout(classes, self.test, self.validation, tuple(self.unused), tuple(self.notes))


def _no_part(root: Path, names: str) -> str:
    remedy = "Add it, or mend folder or data_dir."
    if names == "train" and _has_folders(root):
        remedy = "Add it; if the folder holds the classes themselves, set `test_fraction: 0.2`."
    elif names != "train":
        remedy = "Add it, set `test_fraction: 0.2`, or mend folder or data_dir."
    return f"image_folder: {root} {RULE}. Got no folder {names}. {remedy}"


def _has_folders(root: Path) -> bool:
    return root.is_dir() and any(entry.is_dir() for entry in _entries(root))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder without those that systems leave there, sorted by name: the same on any file system."""
    try:
        with os.scandir(folder) as entries:
            kept = (e for e in entries if not e.name.startswith(".") and e.name.lower() not in PASSED_OVER)
            return sorted(kept, key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"image_folder: {folder} must be a folder of images. Got {error.strerror}. Mend it.") from None


def _list_labelled(root: Path, folder: Path, train: Path, classes: tuple[str, ...], nested: bool) -> Part:
    """The test or validation part, whose classes must be among those of train."""
    unknown = sorted(
        {entry.name for entry in _entries(folder)} - {*classes, *(entry.name for entry in _entries(train))}
    )
    forms = {unicodedata.normalize("NFC", name): name for name in classes}
    for name in unknown:
        if same := forms.get(unicodedata.normalize("NFC", name)):
            rule = "must name the classes as train does, in the same Unicode normal form"
            got = f"Got {name!a}, where train has {same!a}"
            raise DataError(
                f"image_folder: {folder} {rule}. {got}. Rename one: `convmv -f utf8 -t utf8 --nfc -r --notest`."
            )
    if unknown:
        rule, them = "must hold no class that train lacks", "it" if len(unknown) == 1 else "them"
        remedy = f"Remove {them}, or add {them} to {train}"
        raise DataError(f"image_folder: {folder} {rule}. Got {first_ten(unknown)}. {remedy}.")
    return _list_part(root, folder, classes, may_be_missing=True, nested=nested)


def _list_part(
    root: Path, folder: Path, classes: tuple[str, ...], may_be_missing: bool = False, nested: bool = False
) -> Part:
    """Every file of every class. With `may_be_missing` a class may have no image or no folder."""
    names, counts = list[str](), list[int]()
    folders, empty = list[str](), list[str]()
    prefix = "" if folder == root else f"{folder.name}/"
    for name in classes:
        inside = folder / name
        missing = may_be_missing and not os.path.lexists(inside)
        found = (
            [] if missing else _files_below(inside, set()) if nested else [inside / e.name for e in _entries(inside)]
        )
        folders += [] if nested else [f"{name}/{path.name}" for path in found if path.is_dir()]
        empty += [] if found or may_be_missing else [name]
        names += [f"{prefix}{name}/{path.relative_to(inside).as_posix()}" for path in found]
        counts.append(len(found))
    if folders:
        (first, inner), several = folders[0].split("/", 1), len(folders) > 1
        got, them = (f"folders {first_ten(folders)}", "them") if several else (f"a folder {inner!r}", "it")
        holder = folder if several else folder / first
        remedy = f"Set `nested: true`, or move {them}, for instance with `mv {first}/{inner}/* {first}/`"
        raise DataError(f"image_folder: {holder} must hold images only. Got {got}. {remedy}.")
    if empty:
        got = "none" if len(empty) == 1 else f"none in {first_ten(empty)}"
        place = folder / empty[0] if len(empty) == 1 else f"each class of {folder}"
        raise DataError(f"image_folder: {place} must hold an image. Got {got}. Add some, or remove the folder.")
    if not names:
        raise DataError(f"image_folder: {folder} must hold <class>/<image>. Got none. Add some.")
    part = folder.name if folder != root else "all"
    return Part(root, part, names, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def _with_unlabelled(train: Part, root: Path) -> Part:
    """The training part and, behind it, all files below `unlabelled`."""
    if not os.path.lexists(root / UNLABELLED):
        return train
    found = _files_below(root / UNLABELLED, set())
    names = [path.relative_to(root).as_posix() for path in found]
    labels = np.concatenate([train.labels, np.full(len(names), -1, np.int64)])
    return Part(root, train.name, train.files + names, labels)


def _files_below(folder: Path, above: set[tuple[int, int]]) -> list[Path]:
    """All files at any depth, sorted folder by folder; links that lead into a folder above are passed over."""
    state = folder.stat() if folder.exists() else None
    key = (state.st_dev, state.st_ino) if state else (0, 0)
    if key in above:
        return []
    found = list[Path]()
    for entry in _entries(folder):
        path = folder / entry.name
        is_folder = os.path.isdir(entry)  # of a loop of links `entry.is_dir` raises
        found += _files_below(path, above | {key}) if is_folder else [path]
    return found
