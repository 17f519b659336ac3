"""A file of features gives the arrays that were saved, in three formats; what is wrong is told before it is read."""

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cl_semisup.data import feature_file, memory_limit
from cl_semisup.errors import DataError, InputError

RANDOM = np.random.default_rng(0)


def arrays(kind: str = "f2") -> dict[str, NDArray[Any]]:
    return {"train": RANDOM.standard_normal((6, 4)).astype(kind), "train_labels": np.array([0, 1, 2, 0, -1, 2])}


def safetensors(path: Path, named: dict[str, NDArray[Any]], **changes: Any) -> Path:
    """A file written by hand, after the format's description; `changes` replace entries of its header."""
    kinds = {"f2": "F16", "f4": "F32", "f8": "F64", "i8": "I64", "i4": "I32", "u1": "U8"}
    entries, content = {}, b""
    for key, array in named.items():
        offsets = [len(content), len(content) + array.nbytes]
        kind = kinds[array.dtype.str[1:]]
        entries[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets} | changes.get(key, {})
        content += array.tobytes()
    header = json.dumps(entries | {"__metadata__": {"made": "by hand"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


def parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def refusal(path: Path, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        feature_file.read(path, *args)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_are_read_as_they_were_saved(tmp_path: Path, kind: str, suffix: str) -> None:
    path, saved = tmp_path / f"x{suffix}", arrays(kind)
    if suffix == ".npz":
        np.savez(path, **saved)  # type: ignore[arg-type]
    else:
        safetensors(path, saved)
    found = feature_file.read(path)
    assert found.keys() == saved.keys()
    for key, array in saved.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype
    assert feature_file.read(path, ["train", "test"]).keys() == {"train"}
    shapes = feature_file.read(path, without=["train"])
    assert shapes["train"].shape == (6, 4)
    assert not any(shapes["train"].strides)
    np.testing.assert_array_equal(shapes["train_labels"], saved["train_labels"])


def test_the_librarys_own_safetensors_are_read(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    saved = arrays("f4")
    library.save_file(saved, tmp_path / "x.safetensors")
    for key, array in feature_file.read(tmp_path / "x.safetensors").items():
        np.testing.assert_array_equal(array, saved[key])


def test_a_table_is_split_by_its_column_split(tmp_path: Path) -> None:
    rows = RANDOM.standard_normal((5, 3)).astype(np.float32)
    columns = {"features": rows.tolist(), "view2": (2 * rows).tolist(), "labels": ["b", "a", "b", "c", "a"]}
    split = ["train", "test", "train", "train", "test"]
    found = feature_file.read(parquet(tmp_path / "x.parquet", columns | {"split": split}))
    np.testing.assert_allclose(found["train"], rows[[0, 2, 3]])
    np.testing.assert_allclose(found["test_view2"], 2 * rows[[1, 4]])
    assert found["train_labels"].tolist() == ["b", "b", "c"]
    whole = feature_file.read(parquet(tmp_path / "y.parquet", columns))
    assert whole.keys() == {"features", "view2", "labels"}
    assert "split: must be train or test. Got 'dev'. Rename it." in refusal(
        parquet(tmp_path / "z.parquet", columns | {"split": [*split[:4], "dev"]})
    )
    ragged = parquet(tmp_path / "r.parquet", {"features": [[1.0], [1.0, 2.0]]})
    assert "features: must be lists of one length. Got several. Write them again." in refusal(ragged)
    assert "must have a value in every row. Got empty ones. Fill them." in refusal(
        parquet(tmp_path / "n.parquet", {"a": [1, None]})
    )


@pytest.mark.parametrize(
    ("labels", "names", "numbers", "classes"),
    [
        (np.array([0, 2, 1], np.uint8), None, [0, 2, 1], "012"),
        (np.array([[0], [2], [-1]]), None, [0, 2, -1], "012"),
        (np.array([0.0, 2.0, -1.0], np.float16), None, [0, 2, -1], "012"),
        (np.eye(3)[[0, 2, 1]], None, [0, 2, 1], "012"),
        (np.eye(3, dtype=bool)[[0, 2, 1]], list("xyz"), [0, 2, 1], "xyz"),
        (np.array(["b", "", "a"]), None, [1, -1, 0], "ab"),
        (np.array([b"b", b"", b"a"]), ["b", "a", "c"], [0, -1, 1], "bac"),
    ],
)
def test_labels_of_every_kind(labels: NDArray[Any], names: Any, numbers: list[int], classes: str) -> None:
    named = None if names is None else np.array(names)
    found, words = feature_file.as_labels({"train_labels": labels}, named, Path("x.npz"))
    assert found["train_labels"].tolist() == numbers
    assert found["train_labels"].dtype == np.int64
    assert words == tuple(classes)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (
            np.array([0.5, 1]),
            None,
            "x.npz: train_labels: must be whole numbers. Got 0.5 in row 0. Round or name them; `np.nan_to_num",
        ),
        (
            np.array([[1, 1], [0, 1]]),
            None,
            "train_labels: must have a single 1 in each row where they are (N, C). Got another row, 0. Give one label a row: `np.where(",
        ),
        (
            np.array([0, -2]),
            None,
            "must be from 0 to 2^53, -1 where unknown. Got -2..0. Renumber them; `np.maximum(labels, -1)`",
        ),
        (np.array([0, 7]), None, "labels must count classes from 0, fewer than there are rows. Got 7. Renumber them"),
        (np.array(["a", "b"]), ["a", "c"], "class_names: must name every label. Got no 'b'. Add it."),
        (np.array([0, 1]), ["a", "a"], "class_names: must differ. Got 'a' twice. Rename one."),
        (np.array([0, 1]), [1.5, 2.5], "class_names: must be 1 to 1000000 names (C,). Got float64 (2,). Save strings."),
    ],
)
def test_wrong_labels_are_told(labels: NDArray[Any], names: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        feature_file.as_labels({"train_labels": labels}, None if names is None else np.array(names), Path("x.npz"))
    assert message in str(caught.value)


def test_labels_of_two_kinds_are_told() -> None:
    with pytest.raises(DataError, match="labels must be of one kind. Got a int64, b <U1. Convert them."):
        feature_file.as_labels({"a": np.array([0]), "b": np.array(["x"])}, None, Path("x.npz"))


def test_features_become_float32_and_must_be_finite() -> None:
    found = feature_file.as_features(np.ones((2, 3), np.float64), "x: train")
    assert found.dtype == np.float32
    for array, message in (
        (np.ones((2, 3), int), "x: train: must be floats (M, F), or (M, V, F) with V rows an image. Got int64 (2, 3)."),
        (np.ones(3), "Got float64 (3,). Convert them."),
        (
            np.array([[1.0], [np.nan], [1e300]]),
            "must be finite in float32. Got 2 rows that are not, the first is row 1.",
        ),
    ):
        with pytest.raises(DataError) as caught:
            feature_file.as_features(array, "x: train")
        assert message in str(caught.value)


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train=np.array([{}], dtype=object))
    assert "train: must be plain data, not pickled objects, which could run code" in refusal(tmp_path / "x.npz")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(InputError, match=r"must end in .npz, .safetensors or .parquet. No other file is read, since"):
        feature_file.read(tmp_path / "x.pkl")


@pytest.mark.parametrize("shape", ["(0, True)", "(-1, 4)", "(2.0, 4)", "(2**60, 0)", "('2', 4)"])
def test_a_shape_is_of_whole_numbers(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "h.npz", "w") as archive:
        archive.writestr("train.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    assert str(tmp_path / "h.npz") in refusal(tmp_path / "h.npz")


def test_what_a_header_claims_is_compared_with_memory_and_file(tmp_path: Path, monkeypatch: Any) -> None:
    saved = arrays("f4")
    np.savez(tmp_path / "x.npz", **saved)
    damaged = "must be a file that can be read. Got Error while deserializing header: "
    offsets = {"train": {"data_offsets": [0, 10**6]}}
    message = refusal(safetensors(tmp_path / "x.safetensors", saved, **offsets))
    assert damaged + "invalid shape, data type, or offset for tensor. Write it again with" in message
    (tmp_path / "h.safetensors").write_bytes(struct.pack("<Q", 2**40))
    assert damaged + "header too large." in refusal(tmp_path / "h.safetensors")
    (tmp_path / "t.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-30])
    assert "must be a file that can be read. Got the beginning of a file. Fetch it again." in refusal(
        tmp_path / "t.npz"
    )
    (tmp_path / "p.parquet").write_bytes(b"PAR1 no table")
    assert "p.parquet: " in refusal(tmp_path / "p.parquet")
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 400)
    for name in ("x.npz", "x.safetensors"):
        safetensors(tmp_path / "x.safetensors", saved)
        assert "must fit in half of this machine's memory, 200 bytes" in refusal(tmp_path / name)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "x.npz")
    assert "must be a file that can be read. Got a named pipe, not a regular file. Write" in refusal(tmp_path / "x.npz")
    assert "must be a file of features. Got no such file." in refusal(tmp_path / "none.npz")


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    import torch

    library = pytest.importorskip("safetensors.torch")
    x = torch.randn(6, 4).bfloat16()
    library.save_file({"train": x}, tmp_path / "x.safetensors")
    found = feature_file.read(tmp_path / "x.safetensors")["train"]
    np.testing.assert_array_equal(found, x.float().numpy())
    assert feature_file.read(tmp_path / "x.safetensors", without=["train"])["train"].dtype == found.dtype == np.float32


def test_an_array_split_divides_the_rows_of_an_npz_too(tmp_path: Path) -> None:
    rows, split = RANDOM.standard_normal((4, 3)), np.array(["test", "train", "train", "test"])
    np.savez(tmp_path / "x.npz", features=rows, view2=-rows, labels=[0, 1, 0, 1], split=split, class_names=["a", "b"])
    found = feature_file.read(tmp_path / "x.npz", ["train", "test_view2", "train_labels", "class_names"])
    np.testing.assert_array_equal(found["train"], rows[[1, 2]])
    np.testing.assert_array_equal(found["test_view2"], -rows[[0, 3]])
    assert found["train_labels"].tolist() == [1, 0]
    assert found["class_names"].tolist() == ["a", "b"]
    assert len(found) == 4
    np.savez(tmp_path / "y.npz", features=rows, labels=[0, 1, 0], split=split)
    assert "labels: must be as many as the rows that split divides, (4,). Got (3,)." in refusal(tmp_path / "y.npz")
