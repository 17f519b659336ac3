import errno
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple

import numpy as np
from annotated_types import Interval, MinLen
from numpy.typing import NDArray

from cl_semisup.data import label_names, memory_limit, parquet_table
from cl_semisup.data.description import Layout
from cl_semisup.data.images import Facts, Images
from cl_semisup.datasets import _folders, _labels, _pixels, _sources, _table
from cl_semisup.datasets._decoding import Listing, used_parts
from cl_semisup.datasets._pixels import Source
from cl_semisup.errors import DataError, first_ten
from cl_semisup.system import fetched, files

MAX_JSON_BYTES = 50_000_000  # of a description of the data set
END_OF_STREAM = (
    b"\xff\xff\xff\xff\0\0\0\0"  # of Arrow; without it a file cut off between two batches is read as if whole
)
SHARD = re.compile(r"(.*)[-_.](\d+)-of-(\d+)\.parquet")


@dataclass(frozen=True)
class HuggingFace(_pixels.PixelSettings):
    """A data set of Hugging Face on disk: saved by `save_to_disk`, or parquet files.

    The folder is what `save_to_disk` wrote, or it holds parquet files (at any depth) whose names or folders begin with
    their split, such as `data/train-00000-of-00002.parquet` or `default/train/0000.parquet`; what is not named by a
    split is for training. Images must be inside the files, as they are after `save_to_disk` and `to_parquet`. Nothing
    is downloaded and no code of the data set is run. Needs the extra `hf`.

    Source: None

    Args:
        folder: relative to data_dir
        image_column: the column of images
        label_column: the column of labels, class labels, whole numbers or names
        test_fraction: share of each class that is the test part, drawn once and the same for all runs
        folds: the images are tested in so many folds, repetition r testing fold r mod folds
        val: what a split called validation beside test is for: tuning (validate), or training (merge); else it is not
            used, or is the test part where there is no test
    """

    folder: Annotated[str, MinLen(1)]
    image_column: str = "image"
    label_column: str = "label"
    val: Literal["validate", "merge"] | None = None
    test_fraction: Annotated[float, Interval(ge=0.01, le=0.9)] | None = None
    folds: Annotated[int, Interval(ge=2, le=1000)] | None = None

    def facts(self, data_dir: Path) -> Facts:
        return self._listing(data_dir).without_pixels(self).facts()

    def layout(self, data_dir: Path) -> Layout:
        return self._listing(data_dir).layout

    def prepare(self, data_dir: Path, download: bool) -> None:
        self.load(data_dir)

    def data_files(self, data_dir: Path) -> tuple[Path, ...]:
        root = _sources.inside(data_dir, self.folder, "huggingface: folder")
        return _held(root)

    def load(self, data_dir: Path) -> Images:
        return self._listing(data_dir).images(self, f"huggingface: {self.folder}")

    def _listing(self, data_dir: Path) -> Listing:
        root = _sources.inside(data_dir, self.folder, "huggingface: folder")
        if not root.is_dir():
            raise DataError(f"huggingface: folder: must be in {data_dir}. Got no folder {root}. Put it there.")
        where = f"huggingface: {self.folder}"
        held = _held(root)
        tables = [path for path in held if path.suffix != ".json"]
        _sources.require_regular(tables, where, None)
        for path in tables:
            with files.open_regular(path) as file:
                got, remedy = fetched.instead(file)
            if got:
                raise DataError(f"{where}: {path}: must hold data. Got {got}. {remedy}.")
        _sources.require_regular((path for path in held if path.suffix == ".json"), where, MAX_JSON_BYTES)
        with _sources._as_data_error(f"{where}: must be a data set that can be read", "Save it again."):
            splits = _saved(root) or _parquet(root, [self.image_column, self.label_column])
        splitting = "test_fraction" if self.test_fraction else "folds" if self.folds else ""
        if self.test_fraction and self.folds:
            raise DataError(f"{where}: test_fraction and folds exclude each other. Got both. Keep one.")
        there = {_table.SPLITS[name]: table for name, table in splits.items() if name in _table.SPLITS}
        if "train" not in there or not (splitting or len(there) > 1):
            rule, got = "must hold a split train, and one of test or validation", first_ten(sorted(splits))
            remedy = "Split it, or set `test_fraction: 0.2`"
            raise DataError(f"{where}: {rule}. Got {got}. {remedy}.")
        sizes = {part: table.table.num_rows for part, table in there.items()}
        used, layout = used_parts(sizes, self.val, where, splitting)
        unused = (*layout.unused, *(name for name in splits if name not in _table.SPLITS))
        layout = replace(layout, unused=unused, notes=(*layout.notes, *_missing_shards(held)))
        parts = {part: self._columns([there[name] for name in names], where) for part, names in used.items()}
        count = len(parts["test"][0])
        rest = np.concatenate([parts[part][1] for part in ("test", "val") if parts[part][0]] or [parts["train"][1][:0]])
        if len(unlabelled := np.flatnonzero((rest == "") if rest.dtype.kind == "U" else rest == -1)):
            rule, got = "every test image must have a label", f"{len(unlabelled):,} of {len(rest):,} without"
            raise DataError(f"{where}: {rule}. Got {got}. Save it without that split, and set `test_fraction: 0.2`.")
        names = getattr(there["train"].features[self.label_column], "names", None)
        train, labels, classes = _labels.numbers(parts["train"][1], rest, names, (f"{where}: train", f"{where}: test"))
        own = (parts["train"][0], train, parts["test"][0], labels[:count], classes)
        listing = Listing(*own, val=parts["val"][0], val_labels=labels[count:], raw_layout=layout)
        return listing.tested(self.test_fraction, self.folds, "huggingface", self.folder)

    def _columns(self, tables: list["_Split"], where: str) -> tuple[list[Source], NDArray[Any]]:
        """The images and the labels of one part; a missing label is -1, or a name of no letters."""
        sources: list[Source] = []
        labels: list[Any] = []
        for split in tables:
            for setting, column in (("image_column", self.image_column), ("label_column", self.label_column)):
                if column not in split.table.column_names:
                    got = f"the columns {first_ten(list(split.features))}"
                    remedy = _table.likely(setting, list(split.features))
                    raise DataError(f"{where}: must have a column {column!r}. Got {got}. {remedy}.")
            images = split.table.column(self.image_column)
            sources += [Source(f"{split.name}: row {n}", partial(_opened, images, n)) for n in range(len(images))]
            labels += split.table.column(self.label_column).to_pylist()
        none: int | str = "" if any(isinstance(label, str) for label in labels) else -1
        labels = [none if label is None else label for label in labels]
        return sources, label_names.array(list(map(str, labels)), where) if none == "" else np.asarray(labels)


def _held(root: Path) -> tuple[Path, ...]:
    """All files below a folder that may be part of a data set, sorted; also what is no file but has such a name.

    Hidden ones are passed over, and what systems leave in folders.
    """
    found = (path for path in root.rglob("*") if path.suffix in (".parquet", ".arrow", ".json") and not path.is_dir())
    return tuple(sorted(p for p in found if not any(map(_folders.passed_over, p.relative_to(root).parts))))


def _missing_shards(paths: Sequence[Path]) -> list[str]:
    """A note on each row of parquet files that is not whole: their names say how many there are."""
    there: dict[tuple[Path, str, int], int] = {}
    for path in paths:
        if found := SHARD.fullmatch(path.name):
            key = (path.parent, found[1], int(found[3]))
            there[key] = there.get(key, 0) + 1
    few = ((parent / name, have, wanted) for (parent, name, wanted), have in there.items() if have < wanted)
    return [f"{have:,} of the {wanted:,} files of {name} are there." for name, have, wanted in few]


class _Split(NamedTuple):
    """A table of pyarrow, what `datasets` knows of its columns, and its name for messages."""

    name: str
    table: Any
    features: Any


def _libraries() -> tuple[Any, Any]:
    """`datasets` and `pyarrow`, with its module `parquet`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is asked for over the network
    try:
        import datasets
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        remedy = "Run: pip install 'cl-semisup[hf]'"
        raise DataError(f"huggingface: needs the packages datasets and pyarrow. Got none. {remedy}.") from None
    return datasets, pyarrow


def _saved(root: Path) -> dict[str, _Split]:
    """The splits that `save_to_disk` of a DatasetDict or a Dataset wrote; {} if it wrote none here."""
    datasets, _ = _libraries()
    folders = {name: root / name for name in _folders.names(root, "huggingface")}
    if (root / "dataset_info.json").is_file():
        folders = {"train": root}
    splits = {}
    for name, folder in folders.items():
        if (folder / "dataset_info.json").is_file():
            _require_own_files(folder)
            rows = datasets.load_from_disk(str(folder))
            splits[name] = _Split(str(folder), rows.with_format("arrow")[:], rows.features)
    return splits


def _require_own_files(folder: Path) -> None:
    """DataError unless the tables of a split lie in its own folder: `state.json` could name any file."""
    state = folder / "state.json"
    with files.open_regular(state, MAX_JSON_BYTES) as file:
        names = [part["filename"] for part in files.parse_json(file.read())["_data_files"]]
    if strange := [name for name in names if not isinstance(name, str) or name != Path(name).name]:
        raise DataError(f"{state}: must name files of its own folder. Got {first_ten(strange)}. Do not use it.")
    for name in names:
        with files.open_regular(folder / name) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - len(END_OF_STREAM)))
            if file.read() != END_OF_STREAM:
                got = f"{size:,} bytes without the mark that ends it"
                raise DataError(f"{folder / name}: must be a whole table of Arrow. Got {got}. Copy it again.")


def _split_of(path: Path, root: Path) -> str:
    """The split that the name of a file begins or ends with, or that of one of its folders."""
    names = [path.stem, *reversed(path.relative_to(root).parent.parts)]
    words = (word for text in names for word in (re.split(r"[-_.]", text)[0], re.split(r"[-_.]", text)[-1]))
    return next((word for word in words if word in _table.SPLITS), path.stem.partition("-")[0])


def _parquet(root: Path, columns: list[str]) -> dict[str, _Split]:
    """The splits of the parquet files; a file's name begins with its split."""
    datasets, pyarrow = _libraries()
    paths: dict[str, list[Path]] = {}
    for path in _held(root):
        if path.suffix == ".parquet":
            paths.setdefault(_split_of(path, root), []).append(path)
    if not any(name in _table.SPLITS for name in paths) and paths:
        paths = {"train": [path for parts in paths.values() for path in parts]}
    if not paths:
        rule = "must hold what save_to_disk wrote, or parquet files"
        raise DataError(f"huggingface: {root} {rule}. Got neither. Save the splits together.")
    every = [path for parts in paths.values() for path in parts]
    memory_limit.require(sum(path.stat().st_size for path in every), str(root))
    memory_limit.require(sum(_claimed(path, columns) for path in every), str(root))
    splits = {}
    for name, parts in paths.items():
        there = pyarrow.parquet.read_schema(parts[0])
        wanted = [column for column in columns if column in there.names] or None
        tables = [parquet_table.read(pyarrow.parquet.ParquetFile(path), wanted, str(path)) for path in parts]
        table = pyarrow.concat_tables(tables)
        splits[name] = _Split(f"{root}: {name}", table, datasets.Features.from_arrow_schema(there))
    return splits


def _claimed(path: Path, columns: Sequence[str]) -> int:
    """Bytes that these columns of a parquet file take in memory; all of its columns if it lacks these."""
    _, pyarrow = _libraries()
    claimed = parquet_table.claimed_bytes(pyarrow.parquet.ParquetFile(path), path)
    return sum(claimed[name] for name in columns if name in claimed) or sum(claimed.values())


def _opened(images: Any, row: int) -> BinaryIO:
    """The bytes of one image: of a column of images, or of plain bytes."""
    value = images[row].as_py()
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        kept = (
            f"a path alone, {value['path']!r}"
            if isinstance(value, dict) and value.get("path")
            else type(value).__name__
        )
        raise OSError(errno.EINVAL, f"must hold the bytes of an image. Got {kept}")
    return io.BytesIO(content)
