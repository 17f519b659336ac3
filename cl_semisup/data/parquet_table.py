"""Tables of parquet files, whose headers may lie: a few bytes can stand for any number of rows of any length."""

from collections.abc import Sequence
from typing import Any

from cl_semisup.data import memory_limit
from cl_semisup.errors import DataError

VALUE_BYTES = 8  # of a value in memory, at most, unless it is text
MAX_ROWS = 4096  # decoded at once
BATCHES = 16  # a batch of rows takes at most this share of the limit, even where all texts are the longest one
TEXT = "BYTE_ARRAY"  # parquet's type of texts, bytes and images; equal ones may be stored once


def claimed_bytes(chunk: Any) -> int:
    """What a part of a column takes in memory, as its header says; of equal texts at least what is stored."""
    return max(int(chunk.num_values) * VALUE_BYTES, int(chunk.total_uncompressed_size))


def read(file: Any, columns: Sequence[str] | None, what: str) -> Any:
    """The table of pyarrow's ParquetFile; DataError if it takes more than half of the memory.

    Args:
        columns: their names; all if None
        what: the file's name for messages
    """
    import pyarrow

    chunks = _chunks(file, columns, what)
    memory_limit.require(sum(map(claimed_bytes, chunks)), what)
    longest = max((int(chunk.total_uncompressed_size) for chunk in chunks if chunk.physical_type == TEXT), default=1)
    limit = int(memory_limit.SHARE * memory_limit.machine_bytes())
    rows = max(1, min(MAX_ROWS, limit // BATCHES // max(1, longest)))
    batches, size = [], 0
    for batch in file.iter_batches(rows, columns=columns):
        size += batch.nbytes
        memory_limit.require(size, what)
        batches.append(batch)
    if not batches:
        return file.schema_arrow.empty_table() if columns is None else file.read(columns=columns)
    return pyarrow.Table.from_batches(batches)


def _chunks(file: Any, columns: Sequence[str] | None, what: str) -> list[Any]:
    """The headers of the columns' parts in all groups of rows. DataError where a number in them is negative."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    every = [group.column(number) for group in groups for number in range(group.num_columns)]
    chunks = [chunk for chunk in every if columns is None or chunk.path_in_schema.partition(".")[0] in columns]
    if any(min(chunk.num_values, chunk.total_uncompressed_size) < 0 for chunk in chunks):
        raise DataError(f"{what}: its headers must hold no negative size. Got one. Write the file again.")
    return chunks
