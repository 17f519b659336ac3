"""Tables of parquet files, whose headers may lie: a few bytes can stand for any number of rows of any length."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cl_semisup.data import memory_limit, parquet_footer, parquet_pages
from cl_semisup.errors import DataError, first_ten
from cl_semisup.system import files

MAX_ROWS = 4096  # decoded at once
BATCHES = 16  # a batch of rows takes at most this share of the limit, even where all texts are the longest one


class _Part(NamedTuple):
    """A column in a group of rows, and what it takes in memory."""

    column: str
    bytes: int
    is_text: bool  # or bytes, or images; equal ones may be stored once


def require_names(names: Sequence[str], path: Path | str) -> None:
    """DataError where two columns have one name: which of them is meant?"""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        rule, remedy = "must hold each column once", "Rename one of them, or leave it out"
        raise DataError(f"{path}: {rule}. Got {first_ten(twice)} again. {remedy}.")


def claimed_bytes(file: Any, path: Path, groups: Sequence[int] | None = None) -> dict[str, int]:
    """Column -> what it takes in memory, as its pages say; of equal texts at least what is stored.

    Args:
        file: pyarrow's ParquetFile of the same path
        groups: of rows; all if None
    """
    claimed: dict[str, int] = {}
    for part in _parts(file, None, path, groups):
        claimed[part.column] = claimed.get(part.column, 0) + part.bytes
    return claimed


def read(file: Any, columns: Sequence[str] | None, path: str) -> Any:
    """The table of pyarrow's ParquetFile; DataError if it takes more than half of the memory.

    Args:
        columns: their names; all if None
        path: of the same file
    """
    import pyarrow

    require_names(file.schema_arrow.names, path)
    parts = _parts(file, columns, Path(path))
    memory_limit.require(sum(part.bytes for part in parts), path)
    limit = int(memory_limit.SHARE * memory_limit.machine_bytes())
    rows = max(1, min(MAX_ROWS, limit // BATCHES // max([1, *(part.bytes for part in parts if part.is_text)])))
    batches, size = [], 0
    for batch in file.iter_batches(rows, columns=columns):
        size += batch.nbytes
        memory_limit.require(size, path)
        batches.append(batch)
    if not batches:
        return file.schema_arrow.empty_table() if columns is None else file.read(columns=columns)
    return pyarrow.Table.from_batches(batches)


def _parts(file: Any, columns: Sequence[str] | None, path: Path, groups: Sequence[int] | None = None) -> list[_Part]:
    """The parts of the columns in these groups of rows; DataError if a header or a page is none."""
    found = []
    with files.open_regular(path) as pages:
        try:
            told = parquet_footer.read(pages)
            for number in range(len(told)) if groups is None else groups:
                if len(told[number].chunks) != len(file.schema):
                    raise ValueError("a group of rows without some of the columns")
                for at, chunk in enumerate(told[number].chunks):
                    name = chunk.path[0]
                    if told[number].num_rows and (columns is None or name in columns):  # of no rows, no page is read
                        value_bytes = max(parquet_pages.VALUE_BYTES, file.schema.column(at).length or 0)
                        found.append(_Part(name, _bytes(pages, chunk, value_bytes), chunk.is_text))
        except ValueError as error:
            raise DataError(f"{path}: must be a whole parquet file. Got {error}. Write it again.") from None
    return found


def _bytes(pages: BinaryIO, chunk: parquet_footer.Chunk, value_bytes: int) -> int:
    if min(chunk.num_values, chunk.total_uncompressed_size) < 0:
        raise ValueError("a negative size in its headers")
    claimed = parquet_pages.claimed_bytes(pages, chunk, value_bytes)
    return max(claimed, chunk.num_values * value_bytes, chunk.total_uncompressed_size)
