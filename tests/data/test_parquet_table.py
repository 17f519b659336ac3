"""A parquet file of a few bytes can stand for any number of rows: its claim is compared with the memory first."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup.data import (
    array_file,
    feature_file,
    memory_limit,
    parquet_footer,
    parquet_pages,
    parquet_table,
    thrift_compact,
)
from cl_semisup.errors import DataError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed; it is in the extra `parquet`")
pq = pytest.importorskip("pyarrow.parquet")
MACHINE = 2**26
ROWS = 10**7


def text_bomb(path: Path, rows: int = 3000, size: int = 100_000) -> None:
    """Equal texts, stored once."""
    column = pa.array([b"\0" * size] * 100, pa.binary())
    with pq.ParquetWriter(path, pa.schema([("image", pa.binary()), ("label", pa.int64())]), compression="zstd") as made:
        for _ in range(rows // 100):
            made.write_table(pa.table({"image": column, "label": pa.array(np.zeros(100, np.int64))}))


def number_bomb(path: Path) -> None:
    """Equal numbers, stored as one and how many there are."""
    pq.write_table(pa.table({"features": np.zeros(ROWS), "labels": np.zeros(ROWS, np.int8)}), path, compression="zstd")


def list_bomb(path: Path) -> None:
    """Lists of equal numbers."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS)), 1000)
    pq.write_table(pa.table({"features": lists, "labels": np.zeros(ROWS // 1000, np.int8)}), path, compression="zstd")


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: MACHINE)


@pytest.mark.parametrize("make", [number_bomb, list_bomb])
def test_equal_numbers_beyond_memory_are_refused_unread(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    make(path)
    assert path.stat().st_size < 100_000
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()

    def evaluated() -> Any:
        with array_file.opened(path) as held:
            array_file.require_memory(path, list(held.headers.values()))

    for action in (lambda: feature_file.read(path), evaluated):
        with pytest.raises(DataError, match=r"f.parquet: must fit in half of this machine's memory, 33554432 bytes"):
            action()
    assert pool.bytes_allocated() - before < 1_000_000


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_what_a_column_takes_is_the_values_that_its_pages_count(dictionary: bool, version: str, tmp_path: Path) -> None:
    """Each page counts its values, the one of the dictionary too."""
    path, rows = tmp_path / "f.parquet", 50_000
    settings = {"use_dictionary": dictionary, "compression": "zstd", "data_page_version": version}
    pq.write_table(pa.table({"x": np.zeros(rows)}), path, data_page_size=10_000, write_statistics=False, **settings)
    with path.open("rb") as file:
        claimed = parquet_pages.claimed_bytes(file, parquet_footer.read(file)[0].chunks[0], 8)
    levels = claimed - 8 * (rows + dictionary)  # bytes of a page beside its values: which of them are there
    assert 0 <= levels < 1000


@pytest.mark.parametrize("columns", [None, ["image"], ["label", "image"]])
def test_equal_texts_beyond_memory_are_refused_while_they_are_read(columns: Any, tmp_path: Path) -> None:
    text_bomb(tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"t.parquet: must fit in half of this machine's memory, 33554432 bytes"):
        parquet_table.read(pq.ParquetFile(tmp_path / "t.parquet"), columns, str(tmp_path / "t.parquet"))
    labels = parquet_table.read(
        pq.ParquetFile(tmp_path / "t.parquet"), ["label"], str(tmp_path / "t.parquet")
    )  # these are few
    assert labels.column_names == ["label"] and labels.num_rows == 3000


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_a_table_is_read_as_pyarrow_reads_it(rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(rows)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(random.random(3 * rows)), 3)
    table = pa.table({"x": random.random(rows), "name": list(map(str, range(rows))), "lists": lists})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    for columns in (None, ["name"], ["lists", "x"]):
        found = parquet_table.read(pq.ParquetFile(tmp_path / "t.parquet"), columns, str(tmp_path / "t.parquet"))
        assert found.to_pydict() == pq.read_table(tmp_path / "t.parquet", columns=columns).to_pydict()


def _varint(number: int, length: int = 0) -> bytes:
    """Thrift's whole number, padded to a length."""
    parts = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1, 7 * length), 7)]
    return bytes([part | 128 for part in parts[:-1]] + parts[-1:])


@pytest.mark.parametrize("count", [0, 14, 15, 20, 200])
def test_a_list_in_a_header_is_passed_over_whole(count: int) -> None:
    """Fifteen elements and more have their number in bytes of its own."""
    head = bytes([count << 4 | 5]) if count < 15 else bytes([0xF5]) + _varint(count)
    content = bytes([0x19]) + head + b"".join(_varint(2 * number) for number in range(count))
    content += bytes([0x15]) + _varint(14) + bytes([0])  # the next field, 7, and the end
    assert thrift_compact.Compact(content).struct() == ({1: None, 2: 7}, len(content))


@pytest.mark.parametrize("kind", [1, 2])
def test_truth_values_in_a_list_take_a_byte_each(kind: int) -> None:
    content = bytes([0x19, 3 << 4 | kind, 1, 2, 1, 0x15]) + _varint(14) + bytes([0])
    assert thrift_compact.Compact(content).struct() == ({1: None, 2: 7}, len(content))


def lie(path: Path) -> int:
    """Make the summary at the end say that nothing is large; the pages stay. Returns the number of lies."""
    content, lies = path.read_bytes(), 0
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    summary, told = content[start:], pq.ParquetFile(path).metadata.row_group(0)
    for column in map(told.column, range(told.num_columns)):
        for size in {column.total_uncompressed_size, column.num_values} - {told.num_rows}:
            true = _varint(2 * size)
            if size > 10**5:
                lies, summary = lies + summary.count(true), summary.replace(true, _varint(2, len(true)))
    path.write_bytes(content[:start] + summary)
    return lies


@pytest.mark.parametrize(
    "column",
    [
        lambda: pa.array([bytes([65 + i]) * 10**7 for i in range(8)]),
        lambda: pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS)), ROWS // 10),
    ],
    ids=["texts", "lists"],
)
def test_a_summary_that_lies_about_its_pages_is_not_believed(column: Callable[[], Any], tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"features": column()}), path, compression="zstd")
    assert lie(path) >= 1
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    with pytest.raises(DataError, match="must fit in half of this machine's memory"):
        parquet_table.read(pq.ParquetFile(path), None, str(path))
    assert pool.bytes_allocated() - before < 1_000_000


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0", "compression": "zstd"}, {"data_page_size": 500, "row_group_size": 50}, {"use_dictionary": False, "write_page_index": True}])  # fmt: skip
def test_pages_of_a_sound_file_claim_what_its_summary_says(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    numbers = pa.array(np.random.default_rng(0).normal(size=200))
    pq.write_table(
        pa.table({"a": numbers, "b": [bytes(300)] * 200, "c": [[f"x{i}"] for i in range(200)]}), path, **options
    )
    file = pq.ParquetFile(path)
    claimed = parquet_table.claimed_bytes(file, path)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    for at, name in enumerate("abc"):
        told = sum(group.column(at).total_uncompressed_size for group in groups)
        assert told <= claimed[name] <= 2 * told + 8 * 200 * 2
    assert parquet_table.read(file, None, str(path)).num_rows == 200


@pytest.mark.parametrize("content", [b"", b"\x15", b"\x1c" * 50, b"\x15\x02\x00", b"\xff" * 40])
def test_what_is_no_page_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": [1]}), path, use_dictionary=False)
    with path.open("rb") as file:
        chunk = parquet_footer.read(file)[0].chunks[0]
    with pytest.raises(ValueError, match=r"page|number|header"):
        parquet_pages.claimed_bytes(io.BytesIO(bytes(chunk.data_page_offset) + content), chunk)


EVERY_BYTE = """
import io, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from cl_semisup.data import parquet_table
from cl_semisup.errors import DataError
path, whole = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
outcomes = {"read": 0, "refused": 0}
for at in range(start, len(whole) - 8):
    for value in {0, 0x15, 0x2C, 0xFF, whole[at] ^ 1, whole[at] ^ 16} - {whole[at]}:
        path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        try:
            with path.open("rb") as file:
                parquet_table.read(pq.ParquetFile(file), None, str(path))
            outcomes["read"] += 1
        except (DataError, OSError, ValueError, KeyError, NotImplementedError, MemoryError):
            outcomes["refused"] += 1
print(outcomes)
assert min(outcomes.values()) > 100
"""


def test_no_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    """pyarrow's binding ends it where sizes of a column contradict each other: an exception of C++ is let through."""
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"features": [[1.0, 2.0], [3.0]], "label": ["a", None], "split": [True, False]}), path)
    done = subprocess.run([sys.executable, "-c", EVERY_BYTE, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_footer_says_what_pyarrow_says(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    table = pa.table(
        {"a": range(200), "b": [bytes(9)] * 200, "c": [[f"x{i}"] for i in range(200)], "d": [{"e": 1}] * 200}
    )
    pq.write_table(table, path, row_group_size=60, use_dictionary=["b"])
    with path.open("rb") as file:
        groups, told = parquet_footer.read(file), pq.ParquetFile(path).metadata
    assert len(groups) == told.num_row_groups == 4
    for number, group in enumerate(groups):
        theirs = told.row_group(number)
        assert (group.num_rows, len(group.chunks)) == (theirs.num_rows, theirs.num_columns)
        for at, chunk in enumerate(group.chunks):
            same = theirs.column(at)
            assert ".".join(chunk.path) == same.path_in_schema
            assert chunk.is_text == (same.physical_type == "BYTE_ARRAY")
            names = [name for name in chunk._fields if name not in ("path", "is_text")]
            assert [getattr(chunk, name) for name in names] == [getattr(same, name) for name in names]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"\xff\xff\xff\x7fPAR1", bytes(4) + b"PAR1", b"\x00\x01\x00\x00\x00PAR1"]
)
def test_what_is_no_footer_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="footer"):
        parquet_footer.read(io.BytesIO(content))
