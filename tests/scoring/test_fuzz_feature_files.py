"""Files of features that are damaged anywhere are read whole or refused in words, by scores and by trainings.

The long form: python benchmarks/fuzz.py feature_files
"""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from cl_semisup.data import memory_limit
from cl_semisup.datasets.features import Features
from cl_semisup.errors import InputError
from cl_semisup.scoring import feature_file, inspection
from tests.datasets.test_fuzz_archives import HEADERS, lies
from tests.helpers.fuzzing import MARKS, damaged, fuzz, hidden

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed; it is an extra")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed; it is in the extra `parquet`")
pq = pytest.importorskip("pyarrow.parquet")
ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3
PARTS: dict[str, Any] = {"train": ROWS, "train_labels": LABELS, "test": ROWS[:6] + 1, "test_labels": LABELS[:6]}


def archive(arrays: dict[str, Any]) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def table(columns: dict[str, Any]) -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table(columns), held)
    return held.getvalue()


WHOLE = {"features": [list(map(float, row)) for row in ROWS], "labels": LABELS, "split": ["train", "test"] * 6}
FILES = {
    "a.npz": archive(PARTS),
    "a.safetensors": safetensors.save(PARTS),
    "a.parquet": table(WHOLE),
}


def read(path: Path) -> bool:
    """Both readers; whether one of them takes the file."""
    taken = 0
    for action in (lambda: inspection.inspect(feature_file.read(path)), lambda: Features(path.name).load(path.parent)):
        try:
            action()
            taken += 1
        except InputError as error:
            assert path.name in str(error)
            assert not hidden(str(error))
    return taken > 0


def read_within_64_mb(content: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Read a file of this name and content on a machine with so much memory."""
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 2**26)
    path = tmp_path / content[0]
    path.write_bytes(content[1])
    return read(path)


@fuzz(
    "damaged files of features",
    content=st.sampled_from(sorted(FILES)).flatmap(lambda n: st.tuples(st.just(n), damaged(FILES[n]))),
)
def test_a_damaged_file_of_features_is_read_whole_or_refused(
    content: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    return read_within_64_mb(content, tmp_path, monkeypatch)


words = st.sampled_from([*MARKS, "a", "b", "", "-1", "7", "=1+1", "\ud800", "train", "test"])
labels = st.one_of(
    st.lists(st.integers(-2, 4), min_size=12, max_size=12),
    st.lists(words, min_size=12, max_size=12),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 0.5, float("nan"), float("inf"), 1e300]), min_size=12, max_size=12),
    st.lists(st.integers(0, 1), min_size=0, max_size=13),
    st.sampled_from([2**63 - 1, -(2**63), 10**18]).map(lambda n: [n] + [0] * 11),
    st.just(np.eye(3)[LABELS]),
    st.just(np.zeros((12, 0))),
)
matrices = st.one_of(
    st.just(ROWS),
    st.sampled_from(["f2", "f8", ">f4", "i4", "u1", "?", "c8", "U3", "M8[s]"]).map(lambda kind: np.ones((12, 3), kind)),
    st.sampled_from([(12,), (12, 0), (0, 3), (12, 2, 2), (1, 3), (13, 4), (), (12, 3, 0)]).map(lambda s: np.ones(s, np.float32)),
    st.sampled_from([np.nan, np.inf, 3e38, 1e-45]).map(lambda value: np.where(ROWS > 1, np.float32(value), ROWS)),
)  # fmt: skip
names = st.sampled_from(["train", "train_labels", "test", "test_labels", "features", "labels", "split", "y", "X", "class_names", *MARKS[:3]])  # fmt: skip


@fuzz(
    "odd arrays as features and labels",
    arrays=st.dictionaries(names, matrices | labels, max_size=2),
    gone=st.none() | names,
    whole=st.booleans(),
)
def test_odd_features_and_labels_are_refused_or_read(
    arrays: dict[str, Any], gone: str | None, whole: bool, tmp_path: Path
) -> bool:
    held = ({"features": ROWS, "labels": LABELS} if whole else dict(PARTS)) | arrays
    held.pop(gone or "", None)
    path = tmp_path / "a.npz"
    path.write_bytes(archive({name: np.asarray(array) for name, array in held.items()}))
    return read(path)


SOUND = {name.removesuffix(".npy"): zipfile.ZipFile(io.BytesIO(FILES["a.npz"])).read(name) for name in zipfile.ZipFile(io.BytesIO(FILES["a.npz"])).namelist()}  # fmt: skip


def npz(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(f"{name}.npy", content)
    return held.getvalue()


UNPARSABLE = [*HEADERS, b"{'descr': ((((1L", b"'''abc L", b"{[]: 1}", b"  \n {1L", b"{'descr': " + b"[" * 5000]
headers = lies | st.sampled_from(UNPARSABLE).map(
    lambda text: b"\x93NUMPY\1\0" + struct.pack("<H", len(text) % 2**16) + text
)
numbers = st.sampled_from([0, 1, 4, 48, -1, 2**63, 10**400, 0.5, True, "4", None, []])
entries = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "I64", "BOOL", "F8_E4M3", "x", 3, None, []]),
            "shape": st.lists(numbers, max_size=3) | numbers,
            "data_offsets": st.lists(numbers, max_size=3) | numbers,
        }
    ),
)
sections = st.dictionaries(names | st.just("__metadata__"), entries, max_size=3)
tables = (sections | st.lists(entries, max_size=2) | entries).map(lambda told: json.dumps(told).encode())


@fuzz(
    "headers of features that lie",
    content=st.tuples(st.just("a.npz"), st.dictionaries(names.filter(str.isprintable), headers, min_size=1, max_size=3).map(lambda more: npz({**SOUND, **more})))
    | st.tuples(st.just("a.safetensors"), (tables | st.binary(max_size=20)).map(lambda told: struct.pack("<Q", len(told)) + told + bytes(48))),
)  # fmt: skip
def test_headers_that_lie_are_refused(
    content: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    return read_within_64_mb(content, tmp_path, monkeypatch)
