"""A parquet file of a few bytes can stand for any number of rows: its claim is compared with the memory first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup.data import array_file, feature_file, memory_limit, parquet_table
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


@pytest.mark.parametrize("columns", [None, ["image"], ["label", "image"]])
def test_equal_texts_beyond_memory_are_refused_while_they_are_read(columns: Any, tmp_path: Path) -> None:
    text_bomb(tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"t: must fit in half of this machine's memory, 33554432 bytes"):
        parquet_table.read(pq.ParquetFile(tmp_path / "t.parquet"), columns, "t")
    labels = parquet_table.read(pq.ParquetFile(tmp_path / "t.parquet"), ["label"], "t")  # these are few
    assert labels.column_names == ["label"] and labels.num_rows == 3000


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_a_table_is_read_as_pyarrow_reads_it(rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(rows)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(random.random(3 * rows)), 3)
    table = pa.table({"x": random.random(rows), "name": list(map(str, range(rows))), "lists": lists})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    for columns in (None, ["name"], ["lists", "x"]):
        found = parquet_table.read(pq.ParquetFile(tmp_path / "t.parquet"), columns, "t")
        assert found.to_pydict() == pq.read_table(tmp_path / "t.parquet", columns=columns).to_pydict()
