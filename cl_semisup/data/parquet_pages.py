"""What the pages of a parquet file take when they are unpacked, from the headers of the pages themselves.

The summary at the file's end may say less than its pages hold, and pyarrow believes the pages: 18 kB became 480 MB.
A header of a page is a struct in Thrift's compact protocol (PageHeader in src/main/thrift/parquet.thrift of
apache/parquet-format); pyarrow hands none of them out.
"""

from typing import Any, BinaryIO

VALUE_BYTES = 8  # of a value in memory, at most, unless it is text
FIRST_BYTES, MAX_HEADER_BYTES = 512, 2**24  # of a header: read at first, and at most, as pyarrow has it
MAX_PAGES = 1_000_000
MAX_DEPTH = 8  # of structs in one another
# fields of a PageHeader: the page's sizes, and the structs whose first field is its number of values
_UNPACKED, _PACKED, _COUNTED = 2, 3, (5, 7, 8)
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
Fields = dict[int, Any]


def claimed_bytes(file: BinaryIO, chunk: Any, value_bytes: int = VALUE_BYTES) -> int:
    """Bytes in memory of a part of a column, as its pages say; of equal texts at least what is stored.

    ValueError if the pages are no pages.

    Args:
        chunk: pyarrow's metadata of that part
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
            return _Compact(content).struct(0)
        except IndexError:  # it is longer
            if len(content) < size or size >= MAX_HEADER_BYTES:
                raise ValueError("the header of a page is cut") from None
            size *= 32


class _Compact:
    """A reader of Thrift's compact protocol, without maps, which no header of a page has."""

    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def struct(self, depth: int) -> tuple[Fields, int]:
        """Field -> value of whole numbers and structs, None for others; and where it ends. IndexError if it is cut."""
        if depth > MAX_DEPTH:
            raise ValueError("the header of a page is nested too deeply")
        fields: Fields = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._number()
            fields[field] = self._value(head & 15, depth)
        return fields, self.at

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return None
        if kind == _STRUCT:
            return self.struct(depth + 1)[0]
        if _BYTE < kind < _DOUBLE:
            return self._number()
        if kind in (_BYTE, _DOUBLE, _BINARY):
            length = {_BYTE: 1, _DOUBLE: 8}.get(kind) or self._unsigned()
            self.at += length
            if self.at > len(self.content):
                raise IndexError
            return None
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            for _ in range(count):
                self._value(_BYTE if head & 15 in (_TRUE, _FALSE) else head & 15, depth + 1)
            return None
        raise ValueError(f"the header of a page has a field of the unknown type {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number in the header of a page is too long")

    def _number(self) -> int:
        """Zigzag: 0, -1, 1, -2, ..."""
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
