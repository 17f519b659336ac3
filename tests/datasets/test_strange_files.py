"""Files of strangers that other libraries open: pipes, devices, endless files and lying headers are told at once."""

import json
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup import plugins
from cl_semisup.data import memory_limit
from cl_semisup.errors import DataError
from cl_semisup.results import data_hashes
from tests.datasets.test_transfer_sets import MAKE

pytestmark = pytest.mark.timeout(60)
ENDLESS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a named pipe, not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
    "terabytes": (lambda path: (path.touch(), os.truncate(path, 2**42)), f"{2**42} bytes, more than the "),
}
PLACES = [
    ("food101", "food-101/meta/test.json"),
    ("dtd", "dtd/dtd/labels/val1.txt"),
    ("fgvc_aircraft", "fgvc-aircraft-2013b/data/variants.txt"),
    ("flowers102", "flowers-102/setid.mat"),
    ("sun397", "SUN397/ClassName.txt"),
    ("voc2007", "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt"),
    ("cifar10", "cifar-10-batches-py/data_batch_1"),
    ("mnist", "MNIST/raw/t10k-images-idx3-ubyte"),
    ("svhn", "test_32x32.mat"),
]


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize(("name", "place"), PLACES)
def test_a_table_that_torchvision_would_wait_for_is_told(name: str, place: str, kind: str, tmp_path: Path) -> None:
    data_set = plugins.load("datasets", name)()
    if name in MAKE:
        MAKE[name](tmp_path)
    for file in getattr(data_set, "files", ()):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        if name not in MAKE:
            (tmp_path / file).write_bytes(b"x")
    put, message = ENDLESS[kind]
    (tmp_path / place).unlink()
    put(tmp_path / place)
    for action in (lambda: data_set.prepare(tmp_path, False), lambda: data_set.load(tmp_path)):
        shown = refusal(action)
        assert shown.startswith(f"{name}: {tmp_path / place}: cannot be read: {message}"), shown
        assert shown.endswith("Unpack its archive again.")


# Hugging Face ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A data set of Hugging Face with one image a class, saved as tables."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    rows = datasets.Dataset.from_dict({"image": [b"", b""], "label": [0, 1]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "d")
    return tmp_path


@pytest.mark.parametrize("kind", ["pipe", "device", "terabytes"])
@pytest.mark.parametrize("place", ["train/state.json", "test/dataset_info.json", "train/data-00000-of-00001.arrow"])
def test_a_part_of_a_hugging_face_set_that_is_no_file_is_told(kind: str, place: str, saved: Path) -> None:
    if kind == "terabytes" and place.endswith("arrow"):
        return  # tables are mapped, and their size is no promise
    put, message = ENDLESS[kind]
    (saved / "d" / place).unlink()
    put(saved / "d" / place)
    data_set = plugins.load("datasets", "huggingface")(folder="d", side=8)
    for action in (
        lambda: data_set.facts(saved),
        lambda: data_hashes.load({"huggingface": {"folder": "d"}}, str(saved)),
    ):
        shown = refusal(action)
        assert f"{saved}/d/{place}: cannot be read: {message}" in shown, shown


@pytest.mark.parametrize("name", ["/dev/zero", "../../elsewhere.arrow", 7])
def test_a_split_names_tables_of_its_own_folder_alone(name: Any, saved: Path) -> None:
    state = saved / "d" / "test" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"_data_files": [{"filename": name}]}))
    shown = refusal(lambda: plugins.load("datasets", "huggingface")(folder="d", side=8).facts(saved))
    assert shown == f"{state}: must name files of its own folder. Got {name!r}. Do not use it."


def test_a_pipe_called_parquet_is_told(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "train-0.parquet")
    shown = refusal(lambda: plugins.load("datasets", "huggingface")(folder="d", side=8).facts(tmp_path))
    assert "train-0.parquet: cannot be read: a named pipe, not a regular file." in shown


# headers that lie -----------------------------------------------------------------------------------------------------


def member(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a tar's member with a size that no program would write."""
    info = tarfile.TarInfo("a/0.png")
    info.type = kind
    text = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    text[124:136] = (size % 2**96).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    text[148:156] = b" " * 8
    text[148:156] = b"%06o\0 " % sum(text[:512])
    return bytes(text)


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (-1, tarfile.REGTYPE),
        (-512, tarfile.REGTYPE),
        (-1024, tarfile.GNUTYPE_LONGNAME),
        (2**40, tarfile.GNUTYPE_LONGNAME),
        (2**40, tarfile.XHDTYPE),
        (2**40, tarfile.XGLTYPE),
        (2**41, tarfile.REGTYPE),
    ],
)
def test_a_tar_whose_member_has_an_impossible_size_is_refused(size: int, kind: bytes, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.tar").write_bytes(member(size, kind) + bytes(1024))
        os.truncate(tmp_path / f"{part}.tar", 2**41)  # sparse: what it claims is there
    data_set = plugins.load("datasets", "webdataset")(train="train.tar", test="test.tar")
    shown = refusal(lambda: data_set.facts(tmp_path))
    assert shown.startswith(
        f"{tmp_path}/train.tar: must be an uncompressed tar file that can be read. Got ValueError: "
    )


@pytest.mark.parametrize(("kind", "shape"), [("<i8", (10**15,)), ("|S0", (10**15,)), ("<i8", (-4,)), ("|V0", ())])
def test_labels_of_corrupted_images_that_are_not_there_are_refused(kind: str, shape: Any, tmp_path: Path) -> None:
    root = tmp_path / "CIFAR-10-C"
    root.mkdir()
    np.save(root / "fog.npy", np.zeros((20, 32, 32, 3), np.uint8))
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    (root / "labels.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)
    shown = refusal(lambda: plugins.load("datasets", "cifar_c")().facts(tmp_path))
    assert shown.startswith(
        f"{root}/labels.npy: must be an .npy file that can be read. Got ValueError: its header tells"
    )


@pytest.mark.parametrize("how", ["bands", "sides", "terabytes"])
def test_a_tiff_that_unpacks_beyond_memory_is_refused_unread(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed; it is in the extra `tiff`")
    shape = {"bands": (32, 32, 4000), "sides": (1024, 1024, 4), "terabytes": (8, 8, 4)}[how]
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        tifffile.imwrite(
            tmp_path / name / "1.tif", np.zeros(shape, np.uint8), photometric="minisblack", compression="zlib"
        )
    if how == "terabytes":
        os.truncate(tmp_path / "train" / "a" / "1.tif", 2**42)
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 2**24)
    if how != "terabytes":  # of which only one image is
        monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lambda *_: pytest.fail("decoded"))
    data_set = plugins.load("datasets", "image_folder")(folder=".", side=8, channels=4)
    shown = refusal(lambda: data_set.load(tmp_path))
    assert shown.startswith(f"{tmp_path}/train/a/1.tif: must fit in half of this machine's memory, 8388608 bytes")
