"""A name that stands twice in a file: whoever reads it must not choose one of the two, as other programs choose others."""

import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cl_semisup import plugins
from cl_semisup.data import array_file, parquet_table
from cl_semisup.errors import InputError, ResultsError
from cl_semisup.results import packed
from cl_semisup.submission import archive
from cl_semisup.weights import reader

IMAGES, LABELS = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "records"


def npy(array: object) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(array))
    return content.getvalue()


def zipped(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as to, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            to.writestr(name, content)
    return path


def of_arrays(path: Path) -> Path:
    """Labels, and other labels of the same name."""
    held = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS}
    members = [(f"{name}.npy", npy(array)) for name, array in held.items()]
    return zipped(path, [*members, ("train_labels.npy", npy(1 - LABELS))])


def mnist(folder: Path) -> object:
    of_arrays(folder / "mnist.npz")
    return plugins.load("datasets", "mnist")().load(folder)


def arrays(folder: Path) -> object:
    of_arrays(folder / "own.npz")
    return plugins.load("datasets", "arrays")(file="own.npz").facts(folder)


def medmnist(folder: Path) -> object:
    from cl_semisup.datasets import _npz

    return _npz.read(of_arrays(folder / "m.npz"), ["train_images", "train_labels"], pixels=True)


def features_npz(folder: Path) -> object:
    path = zipped(folder / "f.npz", [("labels.npy", npy(LABELS)), ("labels.npy", npy(1 - LABELS))])
    with array_file.opened(path) as file:
        return file.headers


def twice_in_safetensors(path: Path) -> Path:
    one = '"a": {"dtype": "%s", "shape": [4], "data_offsets": [0, 16]}'
    header = ("{" + one % "F32" + ", " + one % "I32" + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return path


def features_safetensors(folder: Path) -> object:
    with array_file.opened(twice_in_safetensors(folder / "f.safetensors")) as file:
        return file.headers


def weights_safetensors(folder: Path) -> object:
    return reader.read(twice_in_safetensors(folder / "w.safetensors"))


def weights_of_torch(folder: Path) -> object:
    torch.save({"a": torch.zeros(3)}, folder / "w.pt")
    with zipfile.ZipFile(folder / "w.pt") as held:
        members = [(one.filename, held.read(one)) for one in held.infolist()]
    other = [(name, content[::-1]) for name, content in members if name.endswith("data/0")]
    return reader.read(zipped(folder / "w2.pt", members + other))


def weights_in_two_files(folder: Path) -> object:
    save_file({"a": torch.zeros(2), "b": torch.ones(2)}, folder / "1.safetensors")
    save_file({"a": torch.ones(2)}, folder / "2.safetensors")
    index = '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    return reader.read(folder)


def twice_in_parquet(path: Path) -> Path:
    columns = [pyarrow.array([1.0, 2.0]), pyarrow.array([0, 1]), pyarrow.array([1, 0])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["f", "labels", "labels"]), path)
    return path


def features_parquet(folder: Path) -> object:
    with array_file.opened(twice_in_parquet(folder / "f.parquet")) as file:
        return file.headers


def images_parquet(folder: Path) -> object:
    path = twice_in_parquet(folder / "i.parquet")
    return parquet_table.read(pyarrow.parquet.ParquetFile(path), ["f", "labels"], str(path))


def records_parquet(folder: Path) -> object:
    (folder / "records").mkdir()
    source = min(PUBLISHED.glob("*.parquet"), key=lambda path: path.stat().st_size)
    row = pyarrow.parquet.read_table(source).slice(0, 1)
    pyarrow.parquet.write_table(pyarrow.concat_tables([row, row]), folder / "records" / "a.parquet")
    return packed.Pack.read(folder, folder / "records" / "a.parquet")


def submission(folder: Path) -> object:
    zipped(folder / "s.zip", [("records/a.parquet", b"x"), ("records/a.parquet", b"y")])
    return archive._zip_content(folder / "s.zip")


def shard(path: Path, label: bytes, *more: tuple[str, bytes]) -> None:
    content = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(content, "PNG")
    with tarfile.open(path, "w") as to:
        for name, held in (("a.png", content.getvalue()), ("a.json", label), *more):
            member = tarfile.TarInfo(name)
            member.size = len(held)
            to.addfile(member, io.BytesIO(held))


def load_shard(folder: Path) -> object:
    return plugins.load("datasets", "webdataset")(train="s.tar", test="s.tar", label="json").load(folder)


def key_of_json(folder: Path) -> object:
    shard(folder / "s.tar", b'{"label": 0, "label": 1}')
    return load_shard(folder)


def member_by_another_path(folder: Path) -> object:
    shard(folder / "s.tar", b'{"label": 0}', ("./a.json", b'{"label": 1}'))
    return load_shard(folder)


READERS = {
    mnist: "mnist.npz: must be an .npz archive .* two members of one name, 'train_labels.npy'. Write it again",
    arrays: "own.npz: must be an .npz archive .* two members of one name, 'train_labels.npy'. Write it again",
    medmnist: "m.npz: must be an .npz archive .* two members of one name, 'train_labels.npy'. Download it again",
    features_npz: "f.npz: must be a file that can be read. Got two members of one name, 'labels.npy'. Write it again",
    features_safetensors: "f.safetensors: must be a file .* the key 'a' is there twice. Write it again",
    weights_safetensors: "w.safetensors: must be a whole .* the key 'a' is there twice. Fetch it again",
    weights_of_torch: "w2.pt: must be as torch.save writes it. Got two members of one name, '.*data/0'. Save it again",
    weights_in_two_files: "2.safetensors: must hold each tensor in one of its files. Got 'a' again. Fetch the folder",
    features_parquet: "f.parquet: must hold each column once. Got 'labels' again. Rename one of them",
    images_parquet: "i.parquet: must hold each column once. Got 'labels' again. Rename one of them",
    records_parquet: "a.parquet: must be packed .*: must hold each record once. Got records/.* again. Remove it",
    submission: "s.zip: must be a ZIP archive. Got two members of one name, 'records/a.parquet'. Make it with `submit`",
    key_of_json: "s.tar: a.json: must hold a label. Got .*the key 'label' is there twice. Mend it",
    member_by_another_path: "s.tar: must hold each name once. Got './a.json' again. Write the shard again",
}


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_name_that_is_there_twice_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises((InputError, ResultsError), match=READERS[read]):
        read(tmp_path)


def test_a_file_that_a_table_names_by_two_paths_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    rows = [f"{number}.png,{number % 2},{'train' if number < 4 else 'test'}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,split", *rows, "./0.png,1,test", ""]))
    (note,) = plugins.load("datasets", "image_table")(csv="t.csv", folder="images").layout(tmp_path).notes
    assert note.startswith("1 rows name a file again, 1 of them with another label, such as '0.png' in lines 2 and 10")
