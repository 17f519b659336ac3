"""Thrift's compact protocol, in which a parquet file writes its headers."""

from typing import Any

MAX_DEPTH = 12  # of structs and lists in one another
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
Fields = dict[int, Any]


class Compact:
    """A reader of structs without maps.

    Args:
        content: that starts with a struct
        kept: whether the values of lists and the bytes of texts are returned too; else they are None
    """

    def __init__(self, content: bytes, kept: bool = False):
        self.content, self.kept, self.at = content, kept, 0

    def struct(self, depth: int = 0) -> tuple[Fields, int]:
        """Field -> value of whole numbers and structs, None for truth values and fractions; and where it ends.

        IndexError if it is cut, ValueError if it is none.
        """
        if depth > MAX_DEPTH:
            raise ValueError("a header is nested too deeply")
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
            return self.content[self.at - length : self.at] if self.kept and kind == _BINARY else None
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            values = []
            for _ in range(count):
                value = self._value(_BYTE if head & 15 in (_TRUE, _FALSE) else head & 15, depth + 1)
                if self.kept:
                    values.append(value)
            return values if self.kept else None
        raise ValueError(f"a header has a field of the unknown type {kind}")

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
                raise ValueError("a number in a header is too long")

    def _number(self) -> int:
        """Zigzag: 0, -1, 1, -2, ..."""
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
