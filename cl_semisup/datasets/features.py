import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import MinLen
from numpy.typing import NDArray

from cl_semisup.data import feature_file
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _sources
from cl_semisup.errors import DataError

ROWS = ("train", "train_view2", "test", "test_view2")
LABELS = ("train_labels", "test_labels")
CONTENTS = "train, train_labels, test, test_labels and, if you like, train_view2, test_view2 and class_names"


@dataclass(frozen=True)
class Features:
    """Features of any encoder, in one `.npz`, `.safetensors` or `.parquet` file; nothing is trained but what follows.

    Arrays: train and test, floats (M, F); labels as whole numbers, strings or one-hot, -1 or "" in train_labels where
    unknown. Stored views: train_view2 (M, F), or train as (M, V, F), whose first rows are the ones that are evaluated;
    test may have them too, for the diagnostic `alignment`. class_names, optional, (C,). Pickled objects are refused.
    Without other settings a file with stored views is trained on these (`stored_view`), another on views with noise and
    dropout (`feature_noise`, `feature_dropout`).

    Source: None

    Args:
        file: the file, relative to data_dir
        standardize: none; columns: mean 0 and deviation 1 over the training rows; unit: every row has norm 1
    """

    file: Annotated[str, MinLen(1)]
    standardize: Literal["none", "columns", "unit"] = "none"

    views: ClassVar[dict[str, Any]] = {"feature_noise": {}, "feature_dropout": {}}
    stored_views: ClassVar[dict[str, Any]] = {"stored_view": {}}

    def default_views(self, data_dir: Path) -> dict[str, Any]:
        return self.views if self.facts(data_dir).rows == 1 else self.stored_views

    def facts(self, data_dir: Path) -> Facts:
        return self._read(data_dir, values=False).facts()

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.facts(data_dir)  # there is no download

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        path = _sources.inside(data_dir, self.file, "features: file")
        return (path,) if os.path.lexists(path) else ()

    def load(self, data_dir: Path) -> Images:
        return self._read(data_dir, values=True)

    def _read(self, data_dir: Path, values: bool) -> Images:
        """The data set; without `values`, zeros of the right shape in place of the features."""
        path = _sources.inside(data_dir, self.file, "features: file")
        if not path.is_file():
            remedy = f"Put a file there with arrays {CONTENTS}."
            raise DataError(f"features: file: must be in {data_dir}. Got no file {path}. {remedy}")
        arrays = feature_file.read(path, (*ROWS, *LABELS, "class_names"), without=() if values else ROWS)
        if missing := [key for key in ("train", "test", *LABELS) if key not in arrays]:
            raise DataError(f"{path}: must hold arrays {CONTENTS}. Got no {', '.join(missing)}. Add them.")
        labels, names = feature_file.as_labels({key: arrays[key] for key in LABELS}, arrays.get("class_names"), path)
        rows = {key: feature_file.as_features(arrays[key], f"{path}: {key}") for key in ROWS if key in arrays}
        parts = self._standardized({part: _stacked(rows, part, path) for part in ("train", "test")}, values)
        train, test = (_first(part, values) for part in parts)
        stored = (part if part.shape[1] > 1 else None for part in parts)
        try:
            return Images(train, labels["train_labels"], test, labels["test_labels"], names, *stored)  # type: ignore[arg-type]
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def _standardized(self, rows: dict[str, NDArray[np.float32]], values: bool) -> list[NDArray[np.float32]]:
        """(M, V, F) and (T, V, F); a column without spread, and a row of zeros, stay zeros."""
        if not values or self.standardize == "none":
            return list(rows.values())
        if self.standardize == "unit":
            return [_unit(part) for part in rows.values()]
        train = rows["train"][:, 0]
        mean, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
        spread[spread == 0] = 1
        return [((part - mean) / spread).astype(np.float32) for part in rows.values()]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)


def _first(rows: NDArray[np.float32], values: bool) -> NDArray[np.float32]:
    """(M, F, 1, 1), the first of an image's rows (M, V, F)."""
    first = rows[:, 0, :, None, None]
    return np.ascontiguousarray(first) if values else first  # a copy of the zeros would take memory


def _stacked(rows: dict[str, NDArray[np.float32]], part: str, path: Path) -> NDArray[np.float32]:
    """(M, V, F) rows of a part."""
    first, second = rows[part], rows.get(f"{part}_view2")
    if first.ndim == 3 and second is None:
        return first
    if first.ndim != 2 or (second is not None and second.shape != first.shape):
        got = f"{part} {first.shape}" + ("" if second is None else f", {part}_view2 {second.shape}")
        rule = f"{part} must be (M, F), with {part}_view2 of the same shape, or (M, V, F) alone"
        raise DataError(f"{path}: {rule}. Got {got}. Convert them.")
    if second is None:
        return first[:, None]
    if not any(first.strides):  # zeros that take no memory
        return np.broadcast_to(first[:, None], (len(first), 2, first.shape[1]))
    return np.stack([first, second], axis=1)
