"""What the footer of a parquet file says of its columns, group of rows by group of rows.

pyarrow hands this out too, but ends the process where a footer contradicts itself: its binding lets an exception of
C++ through. The structs are FileMetaData, RowGroup, ColumnChunk and ColumnMetaData of src/main/thrift/parquet.thrift of
apache/parquet-format.
"""

from typing import Any, BinaryIO, NamedTuple

from cl_semisup.data.thrift_compact import Compact, Fields

MAGIC = b"PAR1"
TAIL = 8  # bytes: the footer's length and the magic word
# fields of FileMetaData, RowGroup and ColumnChunk
_GROUPS, _CHUNKS, _ROWS, _ABOUT = 4, 1, 3, 3
# fields of ColumnMetaData
_KIND, _PATH, _VALUES, _UNPACKED, _PACKED, _DATA, _DICTIONARY = 1, 3, 5, 6, 7, 9, 11
BYTE_ARRAY = 6  # the kind of texts, bytes and images


class Chunk(NamedTuple):
    """A column in a group of rows."""

    path: tuple[str, ...]  # names, from the table's column inwards
    is_text: bool
    num_values: int
    total_uncompressed_size: int
    total_compressed_size: int
    data_page_offset: int
    dictionary_page_offset: int | None


class Group(NamedTuple):
    """A group of rows."""

    num_rows: int
    chunks: list[Chunk]


def read(file: BinaryIO) -> list[Group]:
    """The groups of rows of a file. ValueError if its footer is none."""
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL))
    tail = file.read(TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > size - TAIL:
        raise ValueError("no footer")
    file.seek(size - TAIL - length)
    try:
        fields, _ = Compact(file.read(length), kept=True).struct()
        return [_group(group) for group in _structs(fields, _GROUPS)]
    except IndexError:
        raise ValueError("a footer that is cut") from None


def _group(fields: Fields) -> Group:
    return Group(_number(fields, _ROWS), [_chunk(chunk.get(_ABOUT)) for chunk in _structs(fields, _CHUNKS)])


def _chunk(fields: Any) -> Chunk:
    if not isinstance(fields, dict):
        raise ValueError("a footer that says nothing of a column")
    path = fields.get(_PATH)
    if not isinstance(path, list) or not path or not all(isinstance(name, bytes) for name in path):
        raise ValueError("a footer with a column without a name")
    return Chunk(
        path=tuple(name.decode("utf-8", "replace") for name in path),
        is_text=fields.get(_KIND) == BYTE_ARRAY,
        num_values=_number(fields, _VALUES),
        total_uncompressed_size=_number(fields, _UNPACKED),
        total_compressed_size=_number(fields, _PACKED),
        data_page_offset=_number(fields, _DATA),
        dictionary_page_offset=_number(fields, _DICTIONARY) if _DICTIONARY in fields else None,
    )


def _structs(fields: Fields, field: int) -> list[Fields]:
    found = fields.get(field)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("a footer without its groups of rows or columns")
    return found


def _number(fields: Fields, field: int) -> int:
    value = fields.get(field)
    if type(value) is not int:
        raise ValueError("a footer without a number that it needs")
    return value
