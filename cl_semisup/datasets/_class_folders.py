"""Folders of class folders: which of them are parts, and the files of a part with their labels."""

import os
import unicodedata
from pathlib import Path

import numpy as np

from cl_semisup.datasets import _folders, _table
from cl_semisup.datasets._mapped import Part
from cl_semisup.errors import DataError, first_ten

UNLABELLED = ("unlabelled", "unlabeled")
RULE = "must hold train/<class>/* and test/<class>/* (or val)"
TABLE = "name their classes in a table (data set `image_table`)"


def parts(root: Path) -> dict[str, Path]:
    """train, test, val and unlabelled -> the folder that is called so, in small or capital letters, or by a synonym.

    DataError if two are called the same.
    """
    found: dict[str, Path] = {}
    for entry in entries(root) if root.is_dir() else []:
        lower = entry.name.lower()
        part = "unlabelled" if lower in UNLABELLED else _table.SPLITS.get(lower)
        if part in found:
            rule = f"must hold one folder for {part}"
            remedy = f"Rename one, for instance `mv {entry.name} not_used`"
            raise DataError(f"image_folder: {root} {rule}. Got {found[part].name!r} and {entry.name!r}. {remedy}.")
        if part is not None:
            found[part] = root / entry.name
    return found


def no_part(root: Path, names: str) -> str:
    """The message where a part is missing."""
    there = [entry.name for entry in entries(root) if os.path.isdir(entry)] if root.is_dir() else []
    inner = [name for name in there if "train" in parts(root / name)]
    like = next((name for name in there if "train" in name.lower()), "")
    remedy = "Add it, or mend folder or data_dir."
    if names == "train" and inner:
        remedy = f"Write `folder: {root.name}/{inner[0]}`, which holds one."
        if len(inner) > 1 and inner == there:  # <class>/train/*
            move = 'mkdir -p ../sorted/$(basename "$d"); mv "$d" "../sorted/$(basename "$d")/$(dirname "$d")"'
            remedy = f"If these are the classes, put the parts first: `cd {root.name}; for d in */*/; do {move}; done`."
    elif names == "train" and like:
        like = f"{like}/{like}" if (root / like / like).is_dir() else like
        remedy = f"Rename what is for training, for instance `mv {like} train`, and the test part likewise."
    elif names == "train" and there:
        remedy = "Add it; if the folder holds the classes themselves, set `test_fraction: 0.2`."
    elif names != "train":
        remedy = "Add it, set `test_fraction: 0.2`, or mend folder or data_dir."
    return f"image_folder: {root} {RULE}. Got no folder {names}. {remedy}"


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder without those that systems leave there, sorted by name: the same on any file system."""
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not _folders.passed_over(e.name)), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"image_folder: {folder} must be a folder of images. Got {error.strerror}. Mend it.") from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Also of a link; without a question to the system where the listing tells it already."""
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()  # `is_dir` raises for a loop of links


def require_folders(folder: Path, names: list[os.DirEntry[str]]) -> None:
    """DataError if there are files where class folders must be."""
    files = [entry.name for entry in names if not is_folder(entry)]
    if not files:
        return
    pictures = [name for name in files if _folders.is_image_file(name)]
    if pictures and len(files) == len(names):
        got = f"{len(files):,} files and no folder, such as {pictures[0]!r}"
        remedy = f"Make a folder of each class, for instance {_sorting(folder)}, or {TABLE}"
        raise DataError(f"image_folder: {folder} must hold a folder for each class. Got {got}. {remedy}.")
    inner = [entry.name for entry in names if is_folder(entry)]
    if len(inner) == 1 and _holds_folders(folder / inner[0]):
        got = f"Got files, such as {files[0]!r}, beside one folder"
        write = f"Write `folder: {folder.name}/{inner[0]}`, which holds folders"
        raise DataError(f"image_folder: {folder} must hold class folders only. {got}. {write}.")
    link = any(os.path.islink(folder / name) for name in files)
    got = "a link to no folder" if link else "a file"
    remedy = "Mend or remove it" if link else f"Move it out of {folder.name}"
    if len(files) == 1:
        raise DataError(f"image_folder: {folder / files[0]} must be a folder of images. Got {got}. {remedy}.")
    remedy = f"Move them out of {folder.name}; mend links to no folder"
    raise DataError(f"image_folder: {folder} must hold class folders only. Got {first_ten(files)}. {remedy}.")


def _holds_folders(folder: Path) -> bool:
    held = entries(folder)
    return bool(held) and all(map(is_folder, held))


def _sorting(folder: Path) -> str:
    """The line that sorts the files of a folder into folders of their classes: by a table beside it if there is one."""
    tables = [e.name for e in entries(folder.parent) if e.name.lower().endswith(".csv")] if folder.parent.name else []
    if not tables:
        return "`mkdir cat && mv cat* cat/`"
    move = 'mkdir -p "$c" && mv "$f"* "$c"/'
    return f"`cd {folder.name}; tail -n +2 ../{tables[0]} | while IFS=', ' read f c _; do {move}; done`"


def list_labelled(root: Path, folder: Path, train: Path, classes: tuple[str, ...], name: str, nested: bool) -> Part:
    """The test or validation part, whose classes must be among those of train."""
    held = entries(folder)
    require_folders(folder, held)
    unknown = sorted({entry.name for entry in held} - {*classes, *(entry.name for entry in entries(train))})
    forms = {unicodedata.normalize("NFC", known): known for known in classes}
    for strange in unknown:
        if same := forms.get(unicodedata.normalize("NFC", strange)):
            rule = "must name the classes as train does, in the same Unicode normal form"
            got = f"Got {strange!a}, where train has {same!a}"
            raise DataError(
                f"image_folder: {folder} {rule}. {got}. Rename one: `convmv -f utf8 -t utf8 --nfc -r --notest`."
            )
    if unknown:
        rule, them = "must hold no class that train lacks", "it" if len(unknown) == 1 else "them"
        remedy = f"Remove {them}, or add {them} to {train}"
        cases = {known.lower(): known for known in classes}
        if like := [cases[other.lower()] for other in unknown if other.lower() in cases]:
            remedy = f"Train has {first_ten(like)}: rename {them}. Or: {remedy[0].lower()}{remedy[1:]}"
        raise DataError(f"image_folder: {folder} {rule}. Got {first_ten(unknown)}. {remedy}.")
    return list_part(root, folder, classes, name, may_be_missing=True, nested=nested)


def list_part(
    root: Path, folder: Path, classes: tuple[str, ...], part: str, may_be_missing: bool = False, nested: bool = False
) -> Part:
    """Every file of every class. With `may_be_missing` a class may have no image or no folder."""
    names, counts = list[str](), list[int]()
    folders, empty = list[str](), list[str]()
    _require_apart(folder, classes)
    prefix = "" if folder == root else f"{folder.name}/"
    for name in classes:
        inside = folder / name
        missing = may_be_missing and not os.path.lexists(inside)
        held = [] if missing or nested else entries(inside)
        folders += [f"{name}/{entry.name}" for entry in held if is_folder(entry)]
        found = files_below(inside) if nested and not missing else [entry.name for entry in held]
        empty += [] if found or may_be_missing else [name]
        names += [f"{prefix}{name}/{file}" for file in found]
        counts.append(len(found))
    if folders:
        (first, inner), several = folders[0].split("/", 1), len(folders) > 1
        got, them = (f"folders {first_ten(folders)}", "them") if several else (f"a folder {inner!r}", "it")
        holder = folder if several else folder / first
        if len(classes) == 1 and _holds_folders(folder / classes[0]):
            remedy = f"Write `folder: {folder.name}/{classes[0]}`, if these are the classes; else set `nested: true`"
            raise DataError(f"image_folder: {holder} must hold images only. Got {got}. {remedy}.")
        remedy = f"Set `nested: true`, or move {them}, for instance with `mv {first}/{inner}/* {first}/`"
        raise DataError(f"image_folder: {holder} must hold images only. Got {got}. {remedy}.")
    if empty:
        got = "none" if len(empty) == 1 else f"none in {first_ten(empty)}"
        place = folder / empty[0] if len(empty) == 1 else f"each class of {folder}"
        raise DataError(f"image_folder: {place} must hold an image. Got {got}. Add some, or remove the folder.")
    if not names:
        raise DataError(f"image_folder: {folder} must hold <class>/<image>. Got none. Add some.")
    return Part(root, part, names, np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def _require_apart(folder: Path, classes: tuple[str, ...]) -> None:
    """DataError if the folders of two classes are one and the same, as links can make them."""
    first: dict[str, str] = {}
    linked = [name for name in classes if os.path.islink(folder / name)]
    for name in (*linked, *(name for name in classes if linked and name not in linked)):
        if (other := first.setdefault(os.path.realpath(folder / name), name)) != name:
            rule, got = "must hold a folder of its own for each class", f"Got one for {name!r} and {other!r}"
            raise DataError(f"image_folder: {folder} {rule}. {got}, by a link. Remove the link.")


def with_unlabelled(train: Part, root: Path, folder: Path | None) -> Part:
    """The training part and, behind it, all files below the folder of unlabelled images, if there is one."""
    if folder is None:
        return train
    names = [f"{folder.name}/{name}" for name in files_below(folder)]
    labels = np.concatenate([train.labels, np.full(len(names), -1, np.int64)])
    return Part(root, train.name, train.files + names, labels)


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset(), prefix: str = "") -> list[str]:
    """All files at any depth, relative to the first folder and sorted folder by folder.

    Links that lead into a folder above are passed over.
    """
    state = folder.stat() if folder.exists() else None
    key = (state.st_dev, state.st_ino) if state else (0, 0)
    if key in above:
        return []
    found = list[str]()
    for entry in entries(folder):
        name = prefix + entry.name
        found += files_below(folder / entry.name, above | {key}, f"{name}/") if is_folder(entry) else [name]
    return found
