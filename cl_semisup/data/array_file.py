"""Arrays in `.npz`, `.safetensors` and `.parquet` files: their headers first, then the arrays that are asked for.

Nothing is unpickled, and no array is read before its size has been compared with this machine's memory.
"""

import importlib
import io
import math
import re
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.lib import format as npy

from cl_semisup.data import label_names, memory_limit, parquet_table
from cl_semisup.errors import DataError, InputError
from cl_semisup.system import fetched, files

if TYPE_CHECKING:
    from torch import Tensor  # data sets are read where torch is not loaded

MAX_SIZE = 2**62  # of an axis
MAX_HEADER_BYTES = 65_536  # of an array in an `.npz`; numpy writes some hundred
NO_FEATURES = ("labels", "label", "targets", "target", "y", "split")  # columns of a table, also of floats
LIST_NAME = "features"  # the column of a parquet table that holds a list of numbers a row
NUMPY = re.compile("(BF|F|I|U)([0-9]+)")  # safetensors' names of types
TENSORS = ("bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "BOOL")
Array: TypeAlias = "np.ndarray[Any, Any] | Tensor"


class Header(NamedTuple):
    """What a file says of an array, before it is read: shape, type as text, bytes in memory."""

    shape: tuple[int | str, ...]  # `?` where only the data say it
    dtype: str  # numpy's name, bfloat16, or that of a column of a table
    bytes: int


class Container(Protocol):
    """An open file of named arrays."""

    headers: dict[str, Header]

    @abstractmethod
    def read(self, name: str) -> Array: ...


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """The arrays of a file. DataError says what is wrong with it; the ending of its name says what it is."""
    kinds: dict[str, tuple[Callable[[Path, BinaryIO], Container], str]] = {
        ".npz": (_Npz, "numpy.savez"),
        ".safetensors": (_Safetensors, "safetensors.numpy.save_file"),
        ".parquet": (_Parquet, "pyarrow.parquet.write_table"),
    }
    if (ending := path.suffix.lower()) not in kinds:
        rule = "must end in .npz, .safetensors or .parquet. No other file is read, since pickles can run code"
        raise InputError(f"{path}: {rule}. Got {path.suffix or 'no ending'!r}. Save the features with numpy.savez.")
    kind, writer = kinds[ending]
    try:
        with files.open_regular(path) as file:
            got, remedy = fetched.instead(file)
            if got:
                raise DataError(f"{path}: must be a file that can be read. Got {got}. {remedy}.")
            yield kind(path, file)
    except (DataError, InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: must be a file of features. Got no such file. Check the name.") from None
    except ImportError:
        raise
    except (OSError, ValueError, OverflowError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise _unreadable(path, e, writer) from e
    except Exception as error:
        if type(error).__module__.partition(".")[0].lstrip("_") in ("safetensors", "safetensors_rust", "pyarrow"):
            raise _unreadable(path, error, writer) from error
        raise


def require_memory(path: Path, headers: Sequence[Header], copy: int = 0) -> None:
    """DataError unless these arrays, and a copy with `copy` bytes an element, fit in half of the memory."""
    copies = (copy * math.prod(size for size in header.shape if isinstance(size, int)) for header in headers)
    size = sum(header.bytes for header in headers) + sum(copies)
    memory_limit.require(size, str(path), "Store fewer rows, or float16.")


def _unreadable(path: Path, error: Exception, writer: str) -> DataError:
    reason = files.reason(error).strip().rstrip(".") or "no reason given"
    return DataError(f"{path}: must be a file that can be read. Got {reason}. Write it again with {writer}.")


def _extra(module: str, extra: str, path: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        rule = f"is read by a package that is not installed, {module.partition('.')[0]}"
        raise InputError(f"{path}: {rule}. Install it: pip install 'cl-semisup[{extra}]'.") from None


class _Npz:
    """An archive as numpy.savez writes it."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.archive = path, files.open_zip(file)
        members = [name for name in self.archive.namelist() if name.endswith(".npy")]
        self.headers = {name.removesuffix(".npy"): self._header(name) for name in members}

    def _header(self, member_name: str) -> Header:
        """The claim of a header must equal the archive's, and the array must be plain data."""
        member, where = self.archive.getinfo(member_name), f"{self.path}: {member_name.removesuffix('.npy')}"
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack to any size
            raise DataError(f"{where}: must be stored or deflated. Got another compression. Write it again.")
        with self.archive.open(member) as packed:
            start = io.BytesIO(packed.read(MAX_HEADER_BYTES))  # a header may claim gigabytes for itself
        try:
            read_header = npy.read_array_header_1_0 if npy.read_magic(start) == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(start)
        except Exception as error:  # whatever Python's tokenizer, its parser and numpy's types raise
            raise ValueError(f"a header of {member_name} that cannot be parsed: {error!s:.200}") from None
        if dtype.hasobject:
            rule = "must be plain data, not pickled objects, which could run code when read"
            raise DataError(f"{where}: {rule}. Got dtype {dtype}. Save numbers or strings.")
        whole = all(type(size) is int and 0 <= size <= MAX_SIZE for size in shape)  # numpy's parser passes True
        if dtype.itemsize == 0 or not whole:  # any number of these takes no byte
            rule = f"must have bytes in every element, 0 to {MAX_SIZE} along an axis"
            raise DataError(f"{where}: {rule}. Got {dtype} {str(shape)[:80]}. Write it again.")
        size = math.prod(shape) * dtype.itemsize
        if size != (found := member.file_size - start.tell()):  # a damaged header must not allocate memory
            rule = f"must hold {size} bytes, as its header says"
            raise DataError(f"{where}: {rule}. Got {found}. Write it again.")
        return Header(tuple(shape), str(dtype), size)

    def read(self, name: str) -> Array:
        label_names.require_width(self.headers[name].dtype, f"{self.path}: {name}")
        with self.archive.open(f"{name}.npy") as file:
            return np.asarray(npy.read_array(file, allow_pickle=False))


class _Safetensors:
    """The format of Hugging Face; the package maps the file and never copies it whole."""

    def __init__(self, path: Path, file: BinaryIO):
        safetensors = _extra("safetensors", "safetensors", path)
        files.check_safetensors(file)
        self.path, self.tensors = path, safetensors.safe_open(path, framework="pt")
        self.headers = {}
        for name in list(self.tensors.keys()):
            part = self.tensors.get_slice(name)
            shape, dtype = tuple(part.get_shape()), NUMPY.sub(_numpy_name, str(part.get_dtype()))
            self.headers[name] = Header(shape, dtype, math.prod(shape) * 8)

    def read(self, name: str) -> Array:
        if self.headers[name].dtype not in TENSORS:
            rule = f"must be of {', '.join(TENSORS)}"
            raise DataError(f"{self.path}: {name}: {rule}. Got {self.headers[name].dtype}. Convert it.")
        tensor: Tensor = self.tensors.get_tensor(name)
        return tensor


class _Parquet:
    """A table: a column of lists, `features`, or one column a feature; `labels`; and, if there is one, `split`."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file = path, _extra("pyarrow.parquet", "parquet", path).ParquetFile(file)
        schema, facts = self.file.schema_arrow, self.file.metadata
        parquet_table.require_names(schema.names, path)
        lists = [field.name for field in schema if _is_list(field.type)]
        self.columns: dict[str, list[str]] = {field.name: [field.name] for field in schema}
        floats = [field.name for field in schema if str(field.type) in ("halffloat", "float", "double")]
        loose = [] if lists else [name for name in floats if name not in NO_FEATURES]
        if loose:
            self.columns = {name: [name] for name in self.columns if name not in loose} | {LIST_NAME: loose}
        claimed = parquet_table.claimed_bytes(self.file, path)
        self.headers = {}
        for name, members in self.columns.items():
            width: tuple[int | str, ...] = ("?",) if name in lists else (len(members),) if members is loose else ()
            dtype = str(schema.field(members[0]).type)
            self.headers[name] = Header(
                (facts.num_rows, *width), dtype, sum(claimed.get(member, 0) for member in members)
            )

    def read(self, name: str) -> Array:
        members = self.columns[name]
        table = parquet_table.read(self.file, members, str(self.path))
        for member in members:
            if table.column(member).null_count:
                remedy = (
                    f"Fill them: `table[{member!r}].fillna(-1)`, or fillna('') for names, says that there is no label"
                )
                remedy = remedy if member in NO_FEATURES else "Fill them"
                raise DataError(f"{self.path}: {member}: must have a value in every row. Got empty ones. {remedy}.")
        if len(members) > 1 or name not in table.column_names:
            return np.stack([table.column(member).to_numpy() for member in members], axis=1)
        column = table.column(name).combine_chunks()
        if not _is_list(column.type):
            return np.asarray(column.to_numpy(zero_copy_only=False))
        flat = column.flatten().to_numpy(zero_copy_only=False)
        if flat.dtype == object or len(column) == 0 or len(flat) % len(column):
            raise DataError(f"{self.path}: {name}: must be lists of one length. Got several. Write them again.")
        if len(lengths := np.unique(column.value_lengths().to_numpy(zero_copy_only=False))) != 1:
            got = f"{lengths.min()} to {lengths.max()} numbers"
            raise DataError(f"{self.path}: {name}: must be lists of one length. Got {got}. Write them again.")
        return flat.reshape(len(column), -1)


def _numpy_name(found: re.Match[str]) -> str:
    names = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}
    return names[found[1]] + found[2]


def _is_list(kind: Any) -> bool:
    return str(kind).startswith(("list", "fixed_size_list", "large_list"))
