"""Archives that lie about what is in them are read whole or refused in words, and never take more than their share.

The long form: python benchmarks/fuzz.py archives
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.lib import format as npy

from cl_semisup.data import memory_limit
from cl_semisup.datasets import _sources
from cl_semisup.errors import DataError
from tests.helpers.fuzzing import fuzz, hidden

MACHINE = 2**26  # bytes of memory, so that a reader that believes a lie is seen
NAMES = ("train_images", "train_labels", "test_images", "test_labels", "classes")
DESCRIPTIONS = ["|u1", "|S0", "<U0", "|O", "|V0", "|V8", "|b1", "<i8", ">i8", "<u8", "<i2", "<f8", "<c16", "<U3", "|S5", "<M8[s]",
                "<U99999999", "|S2147483647", "nonsense", "", ("<i8", (0,)), ("|u1", (2, 2)), [("a", "|O")], [("a", "<i8")],
                [], None, 7]  # fmt: skip
SIZES = [0, 1, 2, 3, 4, 12, 16, -1, 65536, 10**6, 10**9, 10**15, 2**31, 2**63, 2**64, 10**30, True, 1.5, "4"]
HEADERS = [
    b"",
    b"\x93NUMPY",
    b"{'descr': '|u1'}",
    b"{" * 300,
    b"[" * 100_000,
    b"{'descr': exit(), 'shape': ()}",
    b"\xff" * 40,
]


@cache
def zeros(size: int) -> bytes:
    """That many bytes, deflated: a thousandth of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    pieces = [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join([*pieces, packer.compress(bytes(size % 2**20)), packer.flush()])


def header(description: Any, shape: Any, version: int = 1, claimed: int | None = None, keys: int = 0) -> bytes:
    """The header of an array, as numpy writes it but for what is a lie."""
    fields = {"descr": description, "fortran_order": [False, True, "x"][keys % 3], "shape": shape}
    if keys >= 3:
        fields.pop(sorted(fields)[keys % 3])
    text = repr(fields).encode("latin1", "replace")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    length = len(text) if claimed is None else claimed
    size = struct.pack("<H", length % 2**16) if version == 1 else struct.pack("<I", length % 2**32)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def sound(name: str) -> bytes:
    """An array of four images of 4 x 4, of their labels, or of the names of two classes."""
    held = io.BytesIO()
    array = {"images": np.zeros((4, 4, 4), np.uint8), "labels": np.arange(4) % 2, "classes": np.array(["a", "b"])}
    npy.write_array(held, array[name.rpartition("_")[2]])
    return held.getvalue()


shapes = st.one_of(
    st.lists(st.sampled_from(SIZES), max_size=5).map(tuple),
    st.sampled_from([(4, 4, 4), (4,), (2,), (4, 1), (4, 3, 4, 4), (4, 4, 4, 1), (), None, "4", [4]]),
)
lies = st.builds(
    header,
    st.sampled_from(DESCRIPTIONS),
    shapes,
    st.sampled_from([1, 1, 1, 2, 3, 9]),
    st.one_of(st.none(), st.sampled_from([0, 1, 60, 65_535, 2**32 - 1])),
    st.integers(0, 5),
)
contents = st.one_of(
    st.tuples(lies, st.sampled_from([0, 1, 4, 16, 32, 64, 1000])).map(lambda lie: lie[0] + bytes(lie[1])),
    st.sampled_from(HEADERS).map(lambda text: header("|u1", (4,))[:8] + struct.pack("<H", len(text) % 2**16) + text),
    st.binary(max_size=40),
)


class Member:
    """A file of an archive whose directory may claim other sizes, methods and sums than are true."""

    def __init__(self, name: str, content: bytes, bomb: int, claimed: dict[str, int], encrypted: bool):
        self.name, self.claimed, self.flags = name.encode(), claimed, 1 if encrypted else 0
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        self.packed = packer.compress(content) + packer.flush()
        self.size, self.crc = len(content), zlib.crc32(content)
        if bomb:  # the stored zeros follow the content in one stream
            packer = zlib.compressobj(1, zlib.DEFLATED, -15)
            self.packed = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH) + zeros(bomb)

    def fields(self) -> tuple[int, int, int, int]:
        """(method, sum, packed size, size)"""
        claim = self.claimed.get
        return (claim("method", 8), claim("crc", self.crc), claim("packed", len(self.packed)), claim("size", self.size))


def archive(members: list[Member], tail: dict[str, int], cut: int | None) -> bytes:
    """A zip made by hand: local files, their directory, its end."""
    body, directory = b"", b""
    for member in members:
        method, crc, packed, size = member.fields()
        offset = len(body)
        common = struct.pack("<HHHHHIII", 20, member.flags, method, 0, 33, crc, packed % 2**32, size % 2**32)
        body += b"PK\3\4" + common + struct.pack("<HH", len(member.name), 0) + member.name + member.packed
        directory += b"PK\1\2" + struct.pack("<H", 20) + common
        directory += struct.pack("<HHHHHII", len(member.name), 0, 0, 0, 0, 0, offset) + member.name
    count = tail.get("count", len(members)) % 2**16
    size, offset = tail.get("size", len(directory)) % 2**32, tail.get("offset", len(body)) % 2**32
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, size, offset, 0)
    whole = body + directory + end
    return whole if cut is None else whole[: cut % len(whole)]


odd_sizes = st.sampled_from([0, 1, 10, 100, 192, 2**20, 2**26, 2**30, 2**31 - 1, 2**32 - 1])
claims = st.dictionaries(st.sampled_from(["size", "packed", "crc"]), odd_sizes, max_size=2) | st.fixed_dictionaries(
    {"method": st.sampled_from([0, 1, 8, 9, 12, 14, 93, 99])}
)
tails = st.one_of(st.just({}), st.dictionaries(st.sampled_from(["count", "size", "offset"]), odd_sizes, max_size=2))


@st.composite
def archives(draw: Callable[..., Any]) -> bytes:
    """A sound archive in which up to three members lie, are twice there or gone, or which is cut."""
    members = []
    spoilt = draw(st.sets(st.sampled_from(NAMES), max_size=3))
    for name in NAMES:
        how = draw(st.sampled_from(["lie", "lie", "claim", "bomb", "twice", "gone", "many"])) if name in spoilt else ""
        content = draw(contents) if how == "lie" else sound(name)
        claimed = draw(claims) if how in ("claim", "bomb") and draw(st.booleans()) else {}
        bomb = draw(st.sampled_from([2**20, 2**25, 2**28])) if how == "bomb" else 0
        if how == "bomb" and not claimed and draw(st.booleans()):  # it says what it is
            shape = (bomb // 16 + 1, 4, 4)
            content = header("|u1", shape)
            claimed = {"size": len(content) + bomb}
        if how == "many":
            content = header("<i8", (3_000_000,)) if "labels" in name else header("<U1", (3_000_000,))
            claimed = {"size": len(content) + 24_000_000}
            bomb = 24_000_000
        if how != "gone":
            members.append(Member(f"{name}.npy", content, bomb, claimed, draw(st.integers(0, 30)) == 0))
        if how == "twice":
            members.append(Member(f"{name}.npy", draw(contents), 0, {}, False))
    return archive(members, draw(tails), draw(st.one_of(st.none(), st.none(), st.integers(0, 5000))))


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: MACHINE)


def read(path: Path) -> bool:
    try:
        facts, images = _sources.read_archive(path, pixels=False).facts(), _sources.read_archive(path)
    except DataError as error:
        assert str(path) in str(error)
        assert not hidden(str(error))
        return False
    assert images.facts() == facts
    return True


@fuzz("archives that lie: headers, sizes, counts, bombs", short=150, content=archives())
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_lies_is_read_whole_or_refused(content: bytes, tmp_path: Path, small_machine: None) -> bool:
    (tmp_path / "a.npz").write_bytes(content)
    return read(tmp_path / "a.npz")


def test_an_archive_made_by_hand_is_sound(tmp_path: Path) -> None:
    members = [Member(f"{name}.npy", sound(name), 0, {}, False) for name in NAMES]
    (tmp_path / "a.npz").write_bytes(archive(members, {}, None))
    assert read(tmp_path / "a.npz")
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None
