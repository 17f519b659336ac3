"""What the pages of a parquet file take when they are unpacked, from the headers of the pages themselves.

The summary at the file's end may say less than its pages hold, and pyarrow believes the pages: 18 kB became 480 MB.
A header of a page is PageHeader in src/main/thrift/parquet.thrift of apache/parquet-format; pyarrow hands none of them
out.
"""

from typing import BinaryIO

from cl_semisup.data.parquet_footer import Chunk
from cl_semisup.data.thrift_compact import Compact, Fields

VALUE_BYTES = 8  # of a value in memory, at most, unless it is text
FIRST_BYTES, MAX_HEADER_BYTES = 512, 2**24  # of a header: read at first, and at most, as pyarrow has it
MAX_PAGES = 1_000_000
# fields of a PageHeader: the page's sizes, and the structs whose first field is its number of values
_UNPACKED, _PACKED, _COUNTED = 2, 3, (5, 7, 8)


def claimed_bytes(file: BinaryIO, chunk: Chunk, value_bytes: int = VALUE_BYTES) -> int:
    """Bytes in memory of a part of a column, as its pages say; of equal texts at least what is stored.

    ValueError if the pages are no pages.

    Args:
        chunk: what the file's footer says of that part
        value_bytes: of a value that is no text
    """
    offsets = [chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset]
    at, total = min(offsets), 0
    end = at + chunk.total_compressed_size
    for _ in range(MAX_PAGES):
        if at >= end:
            return total
        header, length = _header(file, at)
        unpacked, packed = header.get(_UNPACKED), header.get(_PACKED)
        if type(unpacked) is not int or type(packed) is not int or min(unpacked, packed) < 0:
            raise ValueError("a page has no size")
        counts = [header[field].get(1, 0) for field in _COUNTED if isinstance(header.get(field), dict)]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("a page has no number of values")
        total += max(unpacked, value_bytes * max(counts, default=0))
        at += length + packed
    raise ValueError(f"a column has more than {MAX_PAGES} pages")


def _header(file: BinaryIO, at: int) -> tuple[Fields, int]:
    """A page's header and its length."""
    size = FIRST_BYTES
    while True:
        file.seek(at)
        content = file.read(size)
        try:
            return Compact(content).struct()
        except IndexError:  # it is longer
            if len(content) < size or size >= MAX_HEADER_BYTES:
                raise ValueError("the header of a page is cut") from None
            size *= 32
