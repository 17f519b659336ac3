import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import MinLen

from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _folders, _pixels, _sources, _table
from cl_semisup.datasets._decoding import Listing, raise_faults
from cl_semisup.errors import DataError, first_ten


@dataclass(frozen=True)
class TinyImagenet(_pixels.PixelSettings):
    """Tiny-ImageNet as its archive unpacks: photographs of 64x64 pixels in colour, 200 classes.

    Read are `train/<class>/images/*` and, for testing, `val/images/*` with the labels of `val_annotations.txt`, or
    `val/<class>/*` where a script moved them; the archive's own test images have no labels and are not used. 100,000
    images for training and 10,000 for testing. Classes are named by their WordNet ids, in order.

    Source: the archive tiny-imagenet-200 of Stanford's course CS231n

    Args:
        folder: what the archive unpacks to, relative to data_dir
        classes: a text file with a class a line, relative to data_dir; other classes are left out
    """

    folder: Annotated[str, MinLen(1)] = "tiny-imagenet-200"
    classes: str = ""

    def facts(self, data_dir: Path) -> Facts:
        return self._listing(data_dir).without_pixels(self).facts()

    def layout(self, data_dir: Path) -> Layout:
        return self._listing(data_dir).layout

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        root = _sources.inside(data_dir, self.folder, "tiny_imagenet: folder")
        if not os.path.lexists(root):
            return ()
        images = self._listing(data_dir).files()
        lists = [_sources.inside(data_dir, self.classes, "tiny_imagenet: classes")] if self.classes else []
        annotations = root / "val" / "val_annotations.txt"
        return (*([annotations] if _as_unpacked(root) else []), *lists, *images)

    def load(self, data_dir: Path) -> Images:
        return self._listing(data_dir).images(self, f"tiny_imagenet: {self.folder}")

    def _listing(self, data_dir: Path) -> Listing:
        root = _sources.inside(data_dir, self.folder, "tiny_imagenet: folder")
        annotations = root / "val" / "val_annotations.txt"
        if os.path.lexists(root / root.name / "train"):
            raise DataError(f"tiny_imagenet: {root} holds {root.name} again. Set `folder: {self.folder}/{root.name}`.")
        for needed in (root / "train", *([root / "val" / "images", annotations] if _as_unpacked(root) else [])):
            if not os.path.lexists(needed):
                rule = "must hold train/, val/images/ and val/val_annotations.txt, as the archive unpacks"
                remedy = "Run: unzip tiny-imagenet-200.zip"
                raise DataError(f"tiny_imagenet: {root} {rule}. Got no {needed.relative_to(root)}. {remedy}.")
        found = _folders.names(root / "train", "tiny_imagenet")
        chosen = self._chosen(data_dir, found)
        train = [_folders.images(root / "train" / name / "images", "tiny_imagenet") for name in chosen]
        empty = [name for name, files in zip(chosen, train, strict=True) if not files]
        if empty:
            rule = "every class must hold images/<image>"
            raise DataError(f"tiny_imagenet: {root / 'train'}: {rule}. Got none for {first_ten(empty)}. Unpack again.")
        number = {name: n for n, name in enumerate(chosen)}
        test, labels = _annotated(annotations, number, set(found)) if _as_unpacked(root) else _moved(root, number)
        layout = Layout(test="val, as test has no labels", unused=("test",) if os.path.lexists(root / "test") else ())
        return Listing(
            [_pixels.of_file(path) for files in train for path in files],
            np.repeat(np.arange(len(chosen), dtype=np.int64), [len(files) for files in train]),
            [_pixels.of_file(path) for path in test],
            np.array(labels, np.int64),
            tuple(chosen),
            root,
            raw_layout=layout,
        )

    def _chosen(self, data_dir: Path, found: Sequence[str]) -> Sequence[str]:
        """All classes, or those of the list."""
        if not self.classes:
            return found
        path = _sources.inside(data_dir, self.classes, "tiny_imagenet: classes")
        return _table.class_list(path, set(found), "tiny_imagenet: classes")


def _as_unpacked(root: Path) -> bool:
    """Are the images for testing where the archive has them? Else in folders of their classes, as scripts move them."""
    held = _folders.names(root / "val", "tiny_imagenet") if (root / "val").is_dir() else []
    trained = os.listdir(root / "train") if (root / "train").is_dir() else []
    return not set(held) & set(trained)


def _moved(root: Path, number: dict[str, int]) -> tuple[list[Path], list[int]]:
    """The files of the validation part and their labels: `val/<class>/*`, or `val/<class>/images/*`."""
    paths, labels = list[Path](), list[int]()
    for name, label in number.items():
        folder = root / "val" / name
        folder = folder / "images" if (folder / "images").is_dir() else folder
        files = _folders.images(folder, "tiny_imagenet") if folder.is_dir() else []
        files = [path for path in files if path.suffix != ".txt"]  # boxes
        paths += files
        labels += [label] * len(files)
    return paths, labels


def _annotated(annotations: Path, number: dict[str, int], known: set[str]) -> tuple[list[Path], list[int]]:
    """The files of the validation part whose class is in `number`, and labels; `file TAB class TAB box` a line."""
    folder, faults, found = annotations.parent / "images", [], []
    there = set(os.listdir(folder))
    for line, text in enumerate(_table.lines(annotations, "tiny_imagenet"), start=1):
        file, _, rest = text.partition("\t")
        name = rest.partition("\t")[0].strip()
        if not text.strip():
            continue
        if name not in known:
            faults.append(f"{annotations}:{line}: must name a class of train. Got {name!r}. Unpack it again.")
        elif file not in there:
            faults.append(f"{annotations}:{line}: must name a file of images/. Got {file!r}. Unpack it again.")
        elif name in number:
            found.append((folder / file, number[name]))
    raise_faults(faults, f"tiny_imagenet: {annotations}: {{}} lines are broken")
    if not found:
        raise DataError(f"tiny_imagenet: {annotations}: must name images of these classes. Got none. Unpack it again.")
    return [path for path, _ in found], [label for _, label in found]
