"""Features in a file: `.npz`, `.safetensors` or `.parquet` -> arrays by key. Pickles are never read.

An `.npz` and a `.safetensors` hold arrays under their names. A `.parquet` is a table with one image a row: a column
`features` of lists, a column `labels`, perhaps `view2`, and perhaps `split`, whose words `train` and `test` give the
keys `train`, `train_labels`, `train_view2`, `test`, ... Without `split` the keys are the names of the columns.

Sizes are taken from headers and compared with this machine's memory before any array is read.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cl_semisup import files
from cl_semisup.data import memory_limit, parquet_table
from cl_semisup.errors import DataError

Arrays = dict[str, NDArray[Any]]
MAX_HEADER_BYTES = 65_536  # of an array in an .npz
MAX_JSON_BYTES = 10_000_000  # of the header of a .safetensors
MAX_CLASSES = 1_000_000
FLOAT_BYTES = 4  # features are kept as float32
SPLITS = ("train", "test")
_SAFETENSORS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"},
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}
_BROKEN = (
    OSError,
    ValueError,
    OverflowError,
    EOFError,
    RuntimeError,
    KeyError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Header:
    """What a file says of one array before the array is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """In the file, and again as float32 if these are floats of another width."""
        return math.prod(self.shape) * (self.dtype.itemsize + FLOAT_BYTES * (self.dtype.kind == "f"))


def read(path: Path, keys: Collection[str] = (), without: Collection[str] = ()) -> Arrays:
    """The arrays of a file by key, as they are stored.

    Args:
        keys: the keys to read; all if empty. Those that the file lacks are left out
        without: of these keys only the shape is needed. Where headers tell it, zeros that take no memory come instead
    """
    kinds = {".npz": _read_npz, ".safetensors": _read_safetensors, ".parquet": _read_parquet}
    if path.suffix.lower() not in kinds:
        raise DataError(f"{path}: must end in {', '.join(kinds)}. Got {path.suffix!r}. Convert it.")
    with _told(path), files.open_regular(path) as file:
        return kinds[path.suffix.lower()](path, file, keys, without)


def as_features(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """(M, F) or (M, V, F) float32 of finite numbers, from floats of any width."""
    if array.dtype.kind != "f" or array.ndim not in (2, 3) or 0 in array.shape:
        rule = "must be floats (M, F), or (M, V, F) with V rows an image"
        raise DataError(f"{what}: {rule}. Got {array.dtype} {array.shape}. Convert them.")
    if not any(array.strides):  # zeros in place of features that were not read
        return np.broadcast_to(np.zeros((), np.float32), array.shape)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is told below
        features = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(features).all():
        rows = np.flatnonzero(~np.isfinite(features).reshape(len(features), -1).all(axis=1))
        got = f"{len(rows)} rows that are not, the first is row {rows[0]}"
        raise DataError(f"{what}: must be finite in float32. Got {got}. Leave them out.")
    return features


def as_labels(
    labels: Mapping[str, NDArray[Any]], names: NDArray[Any] | None, path: Path
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Key -> (M,) int64 labels, and the classes' names. -1, or an empty string, is no label.

    Args:
        labels: by key, all of one kind: whole numbers (M,) or (M, 1), strings (M,), or one-hot (M, C)
        names: (C,) the classes' names; without them, the strings in their order, or the numbers from 0 on
    """
    plain = {key: _plain(array, f"{path}: {key}") for key, array in labels.items()}
    if len({array.dtype.kind for array in plain.values()}) > 1:
        got = ", ".join(f"{key} {array.dtype}" for key, array in labels.items())
        raise DataError(f"{path}: labels must be of one kind. Got {got}. Convert them.")
    named = None if names is None else _names(names, path)
    if next(iter(plain.values())).dtype.kind == "U":
        known = sorted({str(word) for array in plain.values() for word in np.unique(array)} - {""})
        if named is not None and (strange := [word for word in known if word not in named]):
            raise DataError(f"{path}: class_names: must name every label. Got no {strange[0]!r}. Add it.")
        named = named or tuple(known)
        number = {word: at for at, word in enumerate(named)} | {"": -1}
        plain = {
            key: np.array([number[str(word)] for word in array], np.int64) for key, array in plain.items()
        }  # an image each: numpy has no look-up
    if named is None:
        largest = max(int(array.max(initial=-1)) for array in plain.values())
        if largest >= max(map(len, plain.values())):  # a stray label would make a million classes
            rule = "labels must count classes from 0, fewer than there are rows"
            raise DataError(f"{path}: {rule}. Got {largest}. Renumber them, or add class_names.")
        named = tuple(str(number) for number in range(largest + 1))
    return plain, named


def _plain(array: NDArray[Any], what: str) -> NDArray[Any]:
    """(M,) int64, or (M,) strings."""
    rule = "must be whole numbers or strings (M,), or one-hot (M, C)"
    error = DataError(f"{what}: {rule}. Got {array.dtype} {array.shape}. Convert them.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "fiub" and 0 not in array.shape:
        if not (np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()):
            raise error
        return array.argmax(axis=1).astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "fiuUS":
        raise error
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "f" and not bool((np.isfinite(array) & (array == np.round(array))).all()):
        raise DataError(f"{what}: {rule}. Got a number that is not whole. Convert them.")
    if len(array) and (float(array.max()) >= 2**62 or float(array.min()) < -1):
        raise DataError(
            f"{what}: {rule}, from 0 on, -1 where unknown. Got {array.min()}..{array.max()}. Renumber them."
        )
    return array.astype(np.int64)


def _names(names: NDArray[Any], path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "USiu" or not 0 < len(names) <= MAX_CLASSES:
        got = f"{names.dtype} {names.shape}"
        raise DataError(f"{path}: class_names: must be 1 to {MAX_CLASSES} names (C,). Got {got}. Save strings.")
    words = np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names
    named = tuple(map(str, words.tolist()))
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise DataError(f"{path}: class_names: must differ. Got {twice!r} twice. Rename one.")
    return named


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading as DataErrors that name the file."""
    try:
        yield
    except (DataError, MemoryError):  # has its message already; is no fault of the file
        raise
    except _BROKEN as error:
        got = f"{type(error).__name__}: {files.reason(error).strip().rstrip('.') or 'no reason given'}"
        raise DataError(f"{path}: must be a feature file that can be read. Got {got}. Write it again.") from error


def _zeros(header: Header) -> NDArray[Any]:
    """Zeros of this shape that take no memory."""
    return np.broadcast_to(np.zeros((), header.dtype), header.shape)


def _check(headers: Mapping[str, Header], path: Path) -> None:
    for key, header in headers.items():
        if header.dtype.hasobject:
            rule = "must be plain data, not pickled objects, which could run code when read"
            raise DataError(f"{path}: {key}: {rule}. Got dtype {header.dtype}. Save numbers or strings.")
        if header.dtype.itemsize == 0 or min(header.shape, default=1) < 0:  # any number of them takes no byte
            rule = "must have bytes in every element"
            raise DataError(f"{path}: {key}: {rule}. Got {header.dtype} {header.shape}. Write it again.")
    memory_limit.require(sum(header.bytes for header in headers.values()), str(path))


def _read_npz(path: Path, file: BinaryIO, keys: Collection[str], without: Collection[str]) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        chosen = {key: member for key, member in members.items() if not keys or key in keys}
        headers = {key: _npz_header(archive, member, f"{path}: {key}") for key, member in chosen.items()}
        _check(headers, path)
        arrays: Arrays = {}
        for key, member in chosen.items():
            if key in without:
                arrays[key] = _zeros(headers[key])
                continue
            with archive.open(member) as packed:
                arrays[key] = np.asarray(npy.read_array(packed, allow_pickle=False))
    return arrays


def _npz_header(archive: zipfile.ZipFile, member: str, what: str) -> Header:
    """The header of one array, whose claim must be the archive's."""
    info = archive.getinfo(member)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack to any size
        raise DataError(f"{what}: must be stored or deflated. Got another compression. Write it again.")
    with archive.open(info) as packed:
        start = io.BytesIO(packed.read(MAX_HEADER_BYTES))  # a header may claim gigabytes for itself
    parse = npy.read_array_header_1_0 if npy.read_magic(start) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = parse(start)
    size = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != (stored := info.file_size - start.tell()):
        raise DataError(f"{what}: must hold {size} bytes, as its header says. Got {stored}. Write it again.")
    return Header(tuple(shape), dtype)


def _read_safetensors(path: Path, file: BinaryIO, keys: Collection[str], without: Collection[str]) -> Arrays:
    """Eight bytes with the length of a JSON header, the header, and the arrays one after the other."""
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_JSON_BYTES:
        raise DataError(f"{path}: its header must be at most {MAX_JSON_BYTES} bytes. Got {length}. Write it again.")
    entries = files.parse_json(file.read(length))
    end = file.seek(0, io.SEEK_END) - 8 - length
    headers, starts = {}, {}
    for key, entry in entries.items():
        if key == "__metadata__" or (keys and key not in keys):
            continue
        if entry["dtype"] not in _SAFETENSORS:
            raise DataError(f"{path}: {key}: must be F16 to F64, integers or BOOL. Got {entry['dtype']!r}. Convert it.")
        first, last = entry["data_offsets"]
        header = headers[key] = Header(tuple(map(int, entry["shape"])), np.dtype(_SAFETENSORS[entry["dtype"]]))
        size = math.prod(header.shape) * header.dtype.itemsize
        if not 0 <= first <= last <= end or last - first != size:
            got = f"{first}..{last} of {end}"
            raise DataError(f"{path}: {key}: must hold {size} bytes inside the file. Got {got}. Write it again.")
        starts[key] = 8 + length + int(first)
    _check(headers, path)
    arrays: Arrays = {}
    for key, header in headers.items():
        if key in without:
            arrays[key] = _zeros(header)
            continue
        file.seek(starts[key])
        content = file.read(math.prod(header.shape) * header.dtype.itemsize)
        arrays[key] = np.frombuffer(content, header.dtype).reshape(header.shape)
    return arrays


def _read_parquet(path: Path, file: BinaryIO, keys: Collection[str], without: Collection[str]) -> Arrays:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path}: needs pyarrow. Got none. Install the extra `parquet`, or save an .npz.") from None
    try:
        table_file = parquet.ParquetFile(file)
        table = parquet_table.read(table_file, None, str(path))
        memory_limit.require(2 * table.nbytes, str(path))  # in the table, and as arrays
        columns = {name: _column(table.column(name), f"{path}: {name}") for name in table.column_names}
    except ArrowException as error:
        raise ValueError(str(error)) from None
    if (split := columns.pop("split", None)) is not None:
        if strange := set(np.unique(split).tolist()) - set(SPLITS):
            raise DataError(f"{path}: split: must be train or test. Got {min(strange)!r}. Rename it.")
        suffixes = {"features": "", "labels": "_labels", "view2": "_view2"}
        columns = {
            f"{part}{suffixes.get(name, f'_{name}')}": column[split == part]
            for part in SPLITS
            for name, column in columns.items()
        }
    return {key: column for key, column in columns.items() if not keys or key in keys}


def _column(column: Any, what: str) -> NDArray[Any]:
    """(M,) numbers or strings, or (M, F) from a column of lists of one length."""
    import pyarrow as pa

    if column.null_count:
        raise DataError(f"{what}: must have a value in every row. Got {column.null_count} without. Fill them.")
    whole = column.combine_chunks()
    if pa.types.is_list(whole.type) or pa.types.is_large_list(whole.type) or pa.types.is_fixed_size_list(whole.type):
        lengths = set(whole.value_lengths().to_pylist()) if not pa.types.is_fixed_size_list(whole.type) else set()
        if len(lengths) > 1:
            raise DataError(f"{what}: must be lists of one length. Got {min(lengths)} to {max(lengths)}. Mend them.")
        flat = whole.flatten()
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(whole), -1)
    values = np.asarray(whole.to_numpy(zero_copy_only=False))
    return values.astype(str) if values.dtype.kind == "O" else values
