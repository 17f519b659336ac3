import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _labels, _npz, _pixels, _sources
from cl_semisup.datasets._decoding import used_parts
from cl_semisup.errors import DataError

COLOURED = ("pathmnist", "dermamnist", "retinamnist", "bloodmnist")
CLASSES = {
    "pathmnist": 9,
    "dermamnist": 7,
    "octmnist": 4,
    "pneumoniamnist": 2,
    "retinamnist": 5,
    "breastmnist": 2,
    "bloodmnist": 8,
    "tissuemnist": 8,
    "organamnist": 11,
    "organcmnist": 11,
    "organsmnist": 11,
}
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class MedMnist:
    """MedMNIST v2, one of its sets of small medical images by name, from the published `.npz` file.

    Coloured are pathmnist, dermamnist, retinamnist and bloodmnist; the others are grey. Images of the published
    validation part are not used unless `val` says so. The views are crops down to a fifth of the area, mirroring and,
    for the coloured sets, changes of colour: change them if they would change an image's class. chestmnist gives each
    image several labels, and the sets in 3D hold volumes: both are refused.

    Source: arXiv 2110.14795; the files are at Zenodo, record 10519652

    Args:
        name: the set, such as pathmnist
        side: of the images, 28, or 64, 128 or 224 (MedMNIST+); the file is `<name>.npz` or `<name>_<side>.npz`
        val: what the published validation part is for: tuning (validate), or training (merge); else it is not used
    """

    name: str
    side: Literal[28, 64, 128, 224] = 28
    val: Literal["validate", "merge"] | None = None
    views: ClassVar[dict[str, Any]] = _pixels.NATURAL

    def __post_init__(self) -> None:
        if self.name not in COLOURED:  # the default views of this one object
            object.__setattr__(self, "views", _pixels.COLOURLESS)

    def facts(self, data_dir: Path) -> Facts:
        return self._images(data_dir, pixels=False).facts()

    def layout(self, data_dir: Path) -> Layout:
        images = self._images(data_dir, pixels=False)
        path = self._path(data_dir)
        count = len(_npz.read(path, ("val_labels",), pixels=False)["val_labels"])
        sizes = {"train": len(images.train_labels), "val": count, "test": len(images.test_labels)}
        return replace(used_parts(sizes, self.val, "medmnist")[1], classes=images.class_names)

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)  # there is no download

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        path = self._path(data_dir)
        return (path,) if os.path.lexists(path) else ()

    def load(self, data_dir: Path) -> Images:
        return self._images(data_dir, pixels=True)

    def _path(self, data_dir: Path) -> Path:
        name = self.name.lower()
        if name == "chestmnist":
            reason = "whose images have several labels each, and a run needs one"
        elif name.endswith("3d"):
            reason = "which holds volumes and not images"
        elif name not in CLASSES:
            reason = "which is none"
        else:
            return _sources.inside(
                data_dir, name + (".npz" if self.side == 28 else f"_{self.side}.npz"), "medmnist: name"
            )
        known = ", ".join(CLASSES)
        raise DataError(f"medmnist: name: must be one of {known}. Got {self.name!r}, {reason}. Name another.")

    def _images(self, data_dir: Path, pixels: bool) -> Images:
        path = self._path(data_dir)
        if not os.path.lexists(path):
            remedy = "Put MedMNIST's file there, by that name"
            raise DataError(f"medmnist: must be in {data_dir}. Got no file {path}. {remedy}.")
        arrays = _npz.read(path, tuple(f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")), pixels)
        images = {part: _npz.channels_first(arrays[f"{part}_images"], f"{path}: {part}_images") for part in PARTS}
        labels = {part: arrays[f"{part}_labels"] for part in PARTS}
        used = [["train", "val"] if self.val == "merge" else ["train"], ["test"]]
        used += [["val"]] if self.val == "validate" else []
        images_by_part = [_npz.joined([images[part] for part in parts], pixels) for parts in used]
        labels_by_part = [_npz.joined([labels[part] for part in parts], True) for parts in used]
        names = tuple(map(str, range(CLASSES[self.name.lower()])))
        where = (f"{path}: train_labels", f"{path}: test_labels")
        train, rest, _ = _labels.numbers(labels_by_part[0], np.concatenate(labels_by_part[1:]), names, where)
        test, val = rest[: len(images_by_part[1])], rest[len(images_by_part[1]) :]
        held: dict[str, Any] = {"val_images": images_by_part[2], "val_labels": val} if len(images_by_part) == 3 else {}
        try:
            return Images(images_by_part[0], train, images_by_part[1], test, names, **held)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
