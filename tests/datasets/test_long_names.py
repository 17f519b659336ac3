"""A label or a name of a class that is very long is told before it is unpacked, wherever it stands."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cl_semisup.data import label_column, label_names, memory_limit
from cl_semisup.data.description import Description, Layout
from cl_semisup.data.images import Facts
from cl_semisup.datasets import _pixels, _table
from cl_semisup.datasets.arrays import Arrays
from cl_semisup.datasets.features import Features
from cl_semisup.datasets.image_table import ImageTable
from cl_semisup.datasets.webdataset import WebDataset
from cl_semisup.errors import DataError, InputError, first_ten
from cl_semisup.scoring import feature_file

RULE = "must have names of at most 1,000 characters. Got 50,000. Shorten them, or number the classes."
LONG = "a" * 50_000


def saved(path: Path, **changed: Any) -> Path:
    pixels = np.zeros((4, 8, 8), np.uint8)
    arrays: dict[str, Any] = {"train_images": pixels, "train_labels": np.arange(4) % 2}
    arrays |= {"test_images": pixels, "test_labels": np.arange(4) % 2}
    np.savez(path, **(arrays | changed))
    return path


@pytest.mark.parametrize("kind", ["U", "S"])
@pytest.mark.parametrize("name", ["train_labels", "test_labels", "classes"])
def test_of_an_archive_by_the_header(name: str, kind: str, tmp_path: Path) -> None:
    saved(tmp_path / "a.npz", **{name: np.array([LONG, "b"] * 2, dtype=f"{kind}50000")})
    with pytest.raises(DataError) as caught:
        Arrays("a.npz").facts(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'a.npz'}: {name}: {RULE}"


def test_of_a_file_of_features(tmp_path: Path) -> None:
    x = np.eye(4, dtype=np.float32)
    names = np.array([LONG, "b", "a", "b"])
    np.savez(tmp_path / "f.npz", train=x, train_labels=names, test=x, test_labels=names)
    with pytest.raises(DataError, match="names of at most 1,000 characters"):
        Features("f.npz").facts(tmp_path)
    with pytest.raises(DataError, match="names of at most 1,000 characters"):
        feature_file.read(tmp_path / "f.npz")


def test_of_objects_such_as_a_parquet_column_holds() -> None:
    with pytest.raises(DataError, match="names of at most 1,000 characters"):
        label_column.column(np.array([LONG, "b"], dtype=object), "f: labels")
    with pytest.raises(DataError, match="names of at most 1,000 characters"):
        label_names.of_objects(np.array([LONG, "b"], dtype=object), "f: split")


def test_of_a_table(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")
    lines = ["file,label,split", f"0.png,{LONG},train", "1.png,b,train", "2.png,b,test"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        ImageTable("t.csv", ".").facts(tmp_path)
    assert str(caught.value) == f"image_table: t.csv: train: {RULE}"


def test_of_a_shard(tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.new("L", (4, 4)).save(image, "PNG")
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name, content in (("0.png", image.getvalue()), ("0.cls", LONG.encode())):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    with pytest.raises(DataError) as caught:
        WebDataset(train="s.tar", test_fraction=0.5).facts(tmp_path)
    assert str(caught.value) == f"webdataset: s.tar: train: {RULE}"


def test_one_name_of_many_does_not_make_an_array_larger_than_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match="must fit in half of this machine's memory, 500000 bytes"):
        label_names.array(["a" * 1000, *(["b"] * 200)], "t")
    assert label_names.array(["a", "b"], "t").tolist() == ["a", "b"]


def test_a_nul_that_numpy_would_cut_off_is_told() -> None:
    with pytest.raises(DataError, match=r"t: must have names without NUL characters\. Got 'a\\x00'\. Remove them\."):
        label_names.array(["a\0", "b"], "t")


def test_a_table_of_more_rows_than_the_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.txt").write_text("a\n" * 5000)
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match="t.txt: 5,000 rows: must fit in half of this machine's memory"):
        _table.read(tmp_path / "t.txt", ("file", "label", "split"), what="csv")


def test_messages_and_descriptions_show_the_beginning_of_a_name() -> None:
    assert first_ten([LONG, "b"]) == "'" + "a" * 76 + "..., 'b'"
    assert len(str(InputError("x" * 100_000))) == 10_000
    facts = Facts(4, 4, 2, 1, 8, 2)
    lines = Description("arrays", facts, Layout(unused=(LONG,), notes=(LONG,))).lines()
    assert max(map(len, lines)) <= 10_000


def test_many_classes_are_described_at_once() -> None:
    names = tuple(f"c{number}" for number in range(30_000))
    assert not Description("x", Facts(30_000, 1, 30_000, 1, 8, 1), Layout(classes=names)).notes()


@pytest.mark.parametrize("ending", ["tif", "gif"])
def test_a_chain_of_pages_is_not_walked_to_its_end(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, frames = tmp_path / f"x.{ending}", [Image.new("L", (4, 4), value) for value in (10, 200, 90)]
    frames[0].save(path, save_all=True, append_images=frames[1:])

    def walked(_: object) -> int:
        raise AssertionError("counting the pages of a chain takes time that grows with its square")

    with Image.open(path) as image:
        monkeypatch.setattr(type(image), "n_frames", property(walked))
    with pytest.raises(DataError, match="must hold one image. Got several frames or pages."):
        _pixels.decode(_pixels.of_file(path), _pixels.PixelSettings())
