"""Files of features: what is read, and what is refused with its place."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from cl_semisup.data import array_file, memory_limit
from cl_semisup.errors import DataError, InputError
from cl_semisup.scoring import feature_file, rows
from cl_semisup.scoring.label_values import to_classes

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 4


def divided(**changes: Any) -> dict[str, Any]:
    parts = {"train": X[:30], "train_labels": Y[:30], "test": X[30:], "test_labels": Y[30:]} | changes
    return {name: value for name, value in parts.items() if value is not None}


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "f.npz", **arrays)
    return folder / "f.npz"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_an_npz_is_read_in_the_type_that_it_is_stored_in(tmp_path: Path, dtype: str) -> None:
    found = feature_file.read(npz(tmp_path, **divided(train=X[:30].astype(dtype), test=X[30:].astype(dtype))))
    assert str(found.train.dtype) == "torch." + np.dtype(dtype).name
    np.testing.assert_array_equal(found.train.numpy(), X[:30].astype(dtype))
    np.testing.assert_array_equal(found.test_labels, Y[30:])
    assert found.class_names == ("0", "1", "2", "3")


def test_names_of_other_tools_are_known(tmp_path: Path) -> None:
    found = feature_file.read(npz(tmp_path, X_train=X[:30], y_train=Y[:30], x_test=X[30:], y_test=Y[30:]))
    assert len(found.train) == 30
    assert len(feature_file.read(npz(tmp_path, embeddings=X, targets=Y)).test) == 8
    names = ("train_x", "train_y", "test_x", "test_y"), ("train_embeddings", "labels_train", "TEST", "test_targets")
    for four in names:
        found = feature_file.read(npz(tmp_path, **dict(zip(four, divided().values(), strict=True)), train_paths=Y))
        np.testing.assert_array_equal(found.test.numpy(), X[30:])
        np.testing.assert_array_equal(found.train_labels, Y[:30])
    split = np.where(np.arange(40) < 30, "Training", "Test")
    found = feature_file.read(npz(tmp_path, feats=X, label=Y, split=split))
    np.testing.assert_array_equal(found.test.numpy(), X[30:])


def test_a_column_of_labels_is_no_feature_though_its_numbers_are_floats(tmp_path: Path) -> None:
    columns: dict[str, Any] = {f"f{i}": X[:, i] for i in range(6)} | {"label": Y.astype(float)}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "f.parquet")
    found = feature_file.read(tmp_path / "f.parquet")
    assert found.train.shape[1] == 6 and found.class_names == ("0", "1", "2", "3")
    columns["label"] = pyarrow.array([None, *Y[1:].astype(float).tolist()])
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"label: must have a value in every row.*`table\['label'\].fillna\(-1\)`"):
        feature_file.read(tmp_path / "f.parquet")


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "Got an empty file. Fetch it again, or remove it."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "Got a pointer of Git LFS. Run `git lfs",
        ),
        (b"\n<!DOCTYPE html>\n<html>", "Got a web page. Fetch the file itself, not the page that offers it."),
        (b"PK\3\4" + b"x" * 99, "Got the beginning of a file. Fetch it again."),
        (b"\x1f\x8b\x08\0", "Got a file packed by gzip. Unpack it with gunzip."),
    ],
)
def test_a_file_that_was_not_fetched_is_told(tmp_path: Path, ending: str, content: bytes, told: str) -> None:
    (path := tmp_path / f"f.{ending}").write_bytes(content)
    with pytest.raises(DataError) as error:
        feature_file.read(path)
    assert told in str(error.value)


def test_safetensors_are_read_also_bfloat16(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    x = torch.from_numpy(X).bfloat16()
    save_file({"features": x, "labels": torch.from_numpy(Y)}, path)
    found = feature_file.read(path)
    assert found.train.dtype == torch.bfloat16
    assert {tuple(row) for row in found.train.tolist()} < {tuple(row) for row in x.tolist()}
    assert found.content_hash == feature_file.read(path).content_hash


@pytest.mark.parametrize("kind", ["columns", "lists", "fixed"])
def test_parquet_tables_are_read(tmp_path: Path, kind: str) -> None:
    names, path = [f"class {label}" for label in Y], tmp_path / "f.parquet"
    split = ["train"] * 30 + ["test"] * 10
    columns: dict[str, Any] = {"label": names, "split": split}
    if kind == "columns":
        columns |= {f"f{i}": X[:, i] for i in range(6)}
    elif kind == "lists":
        columns["embedding"] = X.tolist()
    else:
        columns["features"] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), 6)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    found = feature_file.read(path)
    np.testing.assert_allclose(found.test.numpy(), X[30:], rtol=1e-6)
    assert found.class_names == ("class 0", "class 1", "class 2", "class 3")


def test_a_test_part_is_drawn_from_every_class_and_the_same_each_time(tmp_path: Path) -> None:
    path = npz(tmp_path, features=X, labels=Y)
    found = feature_file.read(path, 0.3)
    assert np.bincount(found.test_labels).tolist() == [3, 3, 3, 3]
    assert torch.equal(found.test, feature_file.read(path, 0.3).test)
    rows = {tuple(row) for part in (found.train, found.test) for row in part.tolist()}
    assert rows == {tuple(row) for row in X.tolist()}


ONE_HOT = np.eye(4)[Y]


@pytest.mark.parametrize(
    "labels", [Y, Y.astype(np.uint8), Y.astype(float), Y[:, None], ONE_HOT, ONE_HOT.astype(int), Y * 7 + 3]
)
def test_labels_may_be_numbers_of_many_kinds(labels: Any) -> None:
    (found,), _ = to_classes([("labels", labels)])
    np.testing.assert_array_equal(found, Y)


def test_labels_may_be_text_and_unknown() -> None:
    (found,), names = to_classes([("labels", np.array(["cat", "dog", "cat"]))])
    assert found.tolist() == [0, 1, 0] and names == ("cat", "dog")
    (found,), names = to_classes([("labels", np.array(["cat", "", "dog"]))])
    assert (found.tolist(), names) == ([0, -1, 1], ("cat", "dog"))
    (train, test), names = to_classes([("a", np.array([-1, 2, 5])), ("b", np.array([5]))])
    assert train.tolist() == [-1, 0, 1] and test.tolist() == [1] and names == ("2", "5")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 0.5]), r"labels: must be whole numbers. Got .*0\.5.* in row 1"),
        (
            np.array([0.0, np.nan]),
            r"labels: must be whole numbers. Got nan in row 1.*`np.nan_to_num\(labels, nan=-1\)`",
        ),
        (np.array([[1, 0], [1, 1]]), "labels: must have a single 1 in each row"),
        (np.zeros((2, 2, 2)), r"labels: must be \(N,\), \(N, 1\) or one-hot \(N, C\)"),
        (np.array([1j, 2]), "labels: must be integers or text. Got complex128"),
        (np.array([3, 3]), "labels: must have two classes. Got 1"),
        (
            np.array([0, 1, -100]),
            r"labels: must be from 0 to 2\^53, -1 where unknown. Got -100\.\.1. Renumber them; `np.max",
        ),
    ],
)
def test_other_labels_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_classes([("labels", labels)])


def test_numbers_and_text_do_not_mix() -> None:
    with pytest.raises(DataError, match="a, b: must be all numbers or all text"):
        to_classes([("a", np.array([0, 1])), ("b", np.array(["0", "1"]))])


@pytest.mark.parametrize("label", [2**53, 2**63, 2**64 - 1])
def test_a_label_that_would_turn_negative_or_into_another_is_refused(label: int) -> None:
    """In int64 it would be negative, which means unknown: such rows would be left out without a word."""
    with pytest.raises(
        DataError, match=rf"labels: must be from 0 to 2\^53, -1 where unknown. Got 0..{label}. Renumber"
    ):
        to_classes([("labels", np.array([0, 1, label], np.uint64))])
    (found,), _ = to_classes([("labels", np.array([0, 1, 2**53 - 1], np.uint64))])
    assert found.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            divided(test=None),
            r"Got no test; there are train \(30, 6\), train_labels \(30,\), test_labels \(10,\)\. Add",
        ),
        ({"features": X}, "must hold train, train_labels, test, test_labels, or features and labels. Got no labels"),
        ({"arr_0": X, "arr_1": Y}, r"Name them: `np.savez\(file, features=x, labels=y\)`"),
        (divided(train=X[:30, :, None, None]), r"Got float32 \(30, 6, 1, 1\). Make a row of each image: `x.reshape"),
        (
            {"features": X, "labels": Y, "split": Y > 2},
            r'Got false, true. Rename them: `np.where\(split, "test", "train"',
        ),
        ({"other": X}, r"Got no train, train_labels, test, test_labels; there are other \(40, 6\)"),
        (divided(features=X, labels=Y), "not both"),
        (divided(X_train=X), "must hold one of train, X_train. Got 2"),
        (divided(train_labels=Y[:29]), "f.npz: train_labels: must be one a row of .*f.npz: train, 30. Got 29"),
        (divided(test=X[30:, :5]), "f.npz: test: must have as many features as .*train, 6. Got 5"),
        (divided(train=X[:30, 0]), r"f.npz: train: must be float16 to float64 \(N, F\).* Got float32 \(30,\)"),
        (divided(train=X[:30].astype(complex)), "f.npz: train: must be float16 to float64"),
        (divided(test=X[:0], test_labels=Y[:0]), r"f.npz: test: must be .* Got float32 \(0, 6\)"),
        (divided(test_labels=np.full(10, -1)), "f.npz: test_labels: every test row needs a label. Got none in 10 rows"),
        (divided(train_labels=np.full(30, -1)), "training part needs a label|must have two classes"),
        (divided(train=np.array([{}] * 30)), "f.npz: train: must be plain data, not pickled objects"),
        ({"features": X, "labels": Y, "split": ["a"] * 40}, "f.npz: split: must be `train` or `test`, and both. Got a"),
    ],
)
def test_files_that_break_a_rule_are_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        feature_file.read(npz(tmp_path, **arrays))


@pytest.mark.parametrize("part", ["train", "test"])
def test_rows_that_are_not_finite_are_named(tmp_path: Path, part: str) -> None:
    arrays = divided()
    arrays[part] = arrays[part].copy()
    arrays[part][[2, 5], 1] = [np.nan, np.inf]
    with pytest.raises(
        DataError, match=f"f.npz: {part}: must be finite in float32. Got NaN, infinity or more in 2 rows: 2, 5. Leave"
    ):
        feature_file.read(npz(tmp_path, **arrays))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_test_fraction_lies_between_0_and_1(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(InputError, match="test_fraction: must lie between 0 and 1"):
        feature_file.read(npz(tmp_path, features=X, labels=Y), fraction)


def test_a_test_fraction_needs_one_matrix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test_fraction: is for one matrix"):
        feature_file.read(npz(tmp_path, **divided()), 0.2)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    for name in ("f.pt", "f.pkl", "f.npy", "f"):
        (tmp_path / name).write_bytes(pickle.dumps(1))
        with pytest.raises(InputError, match=r"must end in .npz, .safetensors or .parquet. No other file is read"):
            feature_file.read(tmp_path / name)


@pytest.mark.parametrize("name", ["f.npz", "f.safetensors", "f.parquet"])
def test_damaged_and_missing_files_are_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="must be a file of features. Got no such file"):
        feature_file.read(tmp_path / name)
    (tmp_path / name).write_bytes(b"PK\x05\x06 nonsense" * 20)
    with pytest.raises(DataError, match=f"{name}: must be a file that can be read. Got .* Write it again with"):
        feature_file.read(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="regular file"):
        feature_file.read(tmp_path / name)


def test_memory_is_compared_with_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 1000)
    monkeypatch.setattr(array_file._Npz, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(DataError, match="f.npz: must fit in half of this machine's memory, 500 bytes"):
        feature_file.read(npz(tmp_path, **divided()))


@pytest.mark.parametrize(("name", "package"), [("f.safetensors", "safetensors"), ("f.parquet", "pyarrow")])
def test_a_missing_package_is_named_with_its_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    (tmp_path / name).write_bytes(b"x")

    def missing(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(array_file.importlib, "import_module", missing)
    extra = name.partition(".")[2]
    with pytest.raises(
        InputError, match=rf"not installed, {package}\. Install it: pip install 'cl-semisup\[{extra}\]'"
    ):
        feature_file.read(tmp_path / name)


def test_lists_of_several_lengths_and_empty_cells_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    for features in ([[1.0, 2.0], [1.0], [3.0]] * 4, [[1.0], None, [2.0]] * 4):
        pyarrow.parquet.write_table(pyarrow.table({"features": features, "label": [0, 1, 0] * 4}), path)
        with pytest.raises(DataError, match="f.parquet: features: must"):
            feature_file.read(path)


def test_labels_that_are_a_single_one_and_a_fraction_that_leaves_no_row_are_told_with_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", features=X, labels=np.float32(1))
    with pytest.raises(
        DataError, match=f"f.npz: labels: must be one a row of .*f.npz: features, {len(X)}. Got a single one"
    ):
        feature_file.read(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", features=X[:3], labels=[0, 1, 2])
    with pytest.raises(
        InputError, match="f.npz: labels: test_fraction must leave a test row. Got 0.2 of 3 rows. Raise it."
    ):
        feature_file.read(tmp_path / "f.npz")
    np.savez(tmp_path / "f.npz", features=X, labels=Y, split=np.where(np.arange(len(X)) % 2, "train", "test"))
    with pytest.raises(InputError, match="f.npz: split: divides the rows, so test_fraction must be left out. Got 0.5"):
        feature_file.read(tmp_path / "f.npz", 0.5)


def test_doubles_beyond_float32_are_no_features(tmp_path: Path) -> None:
    """They would be infinite where they are read in single precision, and their cosines no numbers."""
    np.savez(tmp_path / "f.npz", features=np.where(np.eye(len(X), 6) * (np.arange(6) < 3), 1e300, 1.0), labels=Y)
    with pytest.raises(
        DataError, match="f.npz: features: must be finite in float32. Got NaN, infinity or more in 3 rows"
    ):
        feature_file.read(tmp_path / "f.npz")


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-13, 1.0, 1e20, 1e38])
def test_rows_of_any_length_become_unit_rows(scale: float) -> None:
    x = torch.tensor([[3.0, 0.0, -2.0], [0.0, 0.0, 0.0]]) * scale
    ((_, unit),) = rows.Rows(x).unit_chunks()
    expected = x[0].double() / x[0].double().norm()
    torch.testing.assert_close(unit[0], expected.float(), rtol=1e-6, atol=0)
    assert not unit[1].any()


@pytest.mark.parametrize(
    "split", [X, np.zeros((40, 2)), np.float32(1), np.array(["train"] * 40), np.array([["train"], ["test"]] * 20)]
)
def test_a_split_of_another_shape_or_kind_is_told(split: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="f.npz: split: must be `train` or `test`, and both"):
        feature_file.read(npz(tmp_path, features=X, labels=Y, split=split))


@pytest.mark.parametrize("kind", [pandas.DataFrame, torch.from_numpy, np.ndarray.tolist, np.ma.array])
def test_frames_tensors_and_lists_are_arrays(kind: Callable[[Any], Any]) -> None:
    labels = pandas.Series(Y[:30]).astype("category") if kind is pandas.DataFrame else kind(Y[:30])
    found = feature_file.from_arrays("f", divided(train=kind(X[:30]), train_labels=labels, test=kind(X[30:])))
    np.testing.assert_allclose(found.train.numpy(), X[:30])
    np.testing.assert_array_equal(found.train_labels, Y[:30])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [[1.0, 2.0], [3.0]] * 15}, "train: must be an array, a tensor, a data frame"),
        ({"train_labels": [[1], [2, 3]] * 15}, "train_labels: must be an array, a tensor, a data frame"),
        ({"train": torch.empty(30, 6, device="meta")}, "train: must be an array, a tensor, a data frame"),
        ({"test": np.ma.array(X[30:], mask=X[30:] > 0)}, "test: must have no masked values"),
        ({"train_labels": np.ma.array(Y[:30], mask=Y[:30] == 1)}, "train_labels: must have no masked values. Got 8"),
        ({"train": X[:30] * 1e-20}, "train: the largest value must lie from 1e-12 to 1e[+]15"),
        ({"test": X[30:] * 1e18}, "test: the largest value must lie from 1e-12 to 1e[+]15"),
        ({"train": pandas.DataFrame(X[:30]).assign(name="a")}, "train: must be float16 to float64"),
    ],
)
def test_other_values_are_no_arrays(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        feature_file.from_arrays("f", divided(**changes))
