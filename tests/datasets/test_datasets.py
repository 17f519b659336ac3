"""Every data set plug-in: what it says without loading, what it loads, and what it says when something is wrong."""

import errno
import hashlib
import importlib
import importlib.util
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.data import memory_limit
from cl_semisup.data.images import Facts, Images
from cl_semisup.data.settings import Views
from cl_semisup.datasets import _mapped, _pixels, _sources
from cl_semisup.errors import DataError
from cl_semisup.suite import views as suite_views
from cl_semisup.system import files, seal

KNOWN = {
    "cifar10": Facts(50_000, 10_000, 10, 3, 32, 5_000),
    "cifar100": Facts(50_000, 10_000, 100, 3, 32, 500),
    "mnist": Facts(60_000, 10_000, 10, 1, 28, 5_421, (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)),
    "fashion_mnist": Facts(60_000, 10_000, 10, 1, 28, 6_000),
    "svhn": Facts(73_257, 26_032, 10, 3, 32, 4_659, (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)),
    "stl10": Facts(105_000, 8_000, 10, 3, 96, 500),
}
RANDOM = np.random.default_rng(0)
HERE = Path(__file__).resolve()


def kind_of(name: str) -> Any:
    return plugins.load("datasets", name)


def plugin(name: str, **params: Any) -> Any:
    return kind_of(name)(**params)


def pixels(count: int, *shape: int) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (count, *shape), dtype=np.uint8)


def archive(path: Path, **changes: Any) -> Path:
    """A small `.npz`: 6 and 3 images of 4x4 grey pixels, 2 classes; `changes` replace arrays, None leaves one out."""
    arrays = {
        "train_images": pixels(6, 4, 4),
        "train_labels": np.array([0, 1, 0, 1, 0, 0]),
        "test_images": pixels(3, 4, 4),
        "test_labels": np.array([1, 0, 1]),
    }
    np.savez(path, **{name: array for name, array in {**arrays, **changes}.items() if array is not None})
    return path


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        action(*args)
    return str(caught.value)


# every plug-in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plugins.names("datasets"))
def test_views_are_settings_that_a_suite_could_ask_for(name: str) -> None:
    views = kind_of(name).views
    if kind_of(name) is not kind_of("features"):
        assert set(views) <= {field.name for field in fields(Views)}
        assert grid.canonical(Views, views, "views") == grid.defaults(Views) | views
    assert suite_views.resolve({}, views)


@pytest.mark.parametrize("name", plugins.names("datasets"))
def test_every_setting_is_explained(name: str) -> None:
    kind = kind_of(name)
    assert plugins.summary("datasets", name).endswith((".", "`)."))
    assert set(plugins.field_descriptions(kind)) == {field.name for field in fields(kind)}
    assert "Source: " in (kind.__doc__ or "")


def test_importing_the_plugins_imports_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from cl_semisup import plugins\n"
        "for name in plugins.names('datasets'): plugins.load('datasets', name)\n"
        "sys.exit(', '.join(m for m in ('torch', 'torchvision', 'scipy', 'sklearn') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=HERE.parents[2]
    )
    assert done.stderr.strip() == ""


def test_digits_are_not_mirrored_and_grey_images_have_no_colour_to_change() -> None:
    for name in ("digits", "mnist", "svhn"):
        assert kind_of(name).views.get("flip", 0.0) == 0.0
    for name in ("digits", "mnist", "fashion_mnist"):
        assert not {"saturation", "hue", "grayscale"} & set(kind_of(name).views)


# published data sets --------------------------------------------------------------------------------------------------


def test_digits_and_their_split_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    theirs, ours = load_digits(), plugins.load("datasets", "digits")().load(Path())
    parts = train_test_split(np.arange(1797), test_size=360, stratify=theirs.target, random_state=0)
    for rows, images, labels in zip(
        map(np.sort, parts),
        (ours.train_images, ours.test_images),
        (ours.train_labels, ours.test_labels),
        strict=True,
    ):
        assert np.array_equal(images[:, 0], np.rint(theirs.images[rows] * (255 / 16)))
        assert np.array_equal(labels, theirs.target[rows])
    assert ours.class_names == tuple(map(str, theirs.target_names))


@pytest.mark.parametrize("name", ["digits", "glyphs", "subspaces"])
def test_sizes_of_a_set_that_is_always_there_are_those_of_its_images(name: str, tmp_path: Path) -> None:
    assert plugin(name).facts(tmp_path) == plugin(name).load(tmp_path).facts()


def test_labels_stand_for_the_sizes_of_the_classes() -> None:
    assert Facts(7, 1, 3, 1, 4, 1, (1, 3, 2)).labels().tolist() == [-1, 0, 1, 1, 1, 2, 2]
    assert Facts(4, 1, 2, 1, 4, 2).labels().tolist() == [0, 0, 1, 1]
    for known in KNOWN.values():
        sizes = known.class_sizes or (known.smallest_class,) * known.classes
        assert len(sizes) == known.classes and min(sizes) == known.smallest_class and sum(sizes) <= known.train


@pytest.mark.parametrize("name", KNOWN)
def test_sizes_of_a_published_set_are_known_before_it_is_there(name: str, tmp_path: Path) -> None:
    assert plugin(name).facts(tmp_path) == KNOWN[name]
    assert plugin(name).facts(tmp_path / "no" / "such" / "folder") == KNOWN[name]


def test_a_missing_set_says_what_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    expected = (
        f"cifar10: must be in {tmp_path}. Got neither {tmp_path}/cifar10.npz nor torchvision's "
        f"{tmp_path}/cifar-10-batches-py/data_batch_1. Set `download: true` in the suite, or put cifar10.npz there "
        "with arrays train_images, train_labels, test_images, test_labels and, if you like, classes."
    )
    assert refusal(plugin("cifar10").prepare, tmp_path, False) == expected
    assert refusal(plugin("cifar10").load, tmp_path) == expected


@pytest.mark.parametrize("name", KNOWN)
def test_a_missing_set_names_the_first_of_torchvisions_files_that_is_missing(name: str, tmp_path: Path) -> None:
    files = plugin(name).files
    assert f"nor torchvision's {tmp_path / files[0]}. " in refusal(plugin(name).prepare, tmp_path, False)
    for file in files[:-1]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert f"nor torchvision's {tmp_path / files[-1]}. " in refusal(plugin(name).prepare, tmp_path, False)
    (tmp_path / files[-1]).touch()
    plugin(name).prepare(tmp_path, False)


@pytest.mark.parametrize("name", KNOWN)
def test_an_archive_of_that_name_goes_first_and_its_own_sizes_win(name: str, tmp_path: Path) -> None:
    archive(tmp_path / f"{name}.npz", classes=np.array(["left", "right"]))
    data = plugin(name)
    assert data.facts(tmp_path) == Facts(6, 3, classes=2, channels=1, side=4, smallest_class=2, class_sizes=(4, 2))
    data.prepare(tmp_path, True)  # nothing is fetched
    images = data.load(tmp_path)
    assert images.facts() == data.facts(tmp_path)
    assert images.class_names == ("left", "right")


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def unplugged(self: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", unplugged)
    assert refusal(plugin("mnist").prepare, tmp_path, True) == (
        f"mnist: download to {tmp_path} failed. Got URLError: <urlopen error Name or service not known>. "
        "Try again, or put mnist.npz there."
    )


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("cifar10", [{"train": False}]),
        ("cifar100", [{"train": False}]),
        ("mnist", [{"train": False}]),
        ("fashion_mnist", [{"train": False}]),
        ("svhn", [{"split": "train"}, {"split": "test"}]),
        ("stl10", [{"split": "test"}]),
    ],
)
def test_download_is_torchvisions(
    name: str, calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    downloads = []
    kinds = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
    kind = kinds.get(name, name.upper())
    monkeypatch.setattr(torchvision.datasets, kind, lambda root, **arguments: downloads.append((root, arguments)))
    plugin(name).prepare(tmp_path, True)
    assert downloads == [(tmp_path, {**call, "download": True}) for call in calls]


# torchvision's own files, made small ----------------------------------------------------------------------------------


def _sized(monkeypatch: pytest.MonkeyPatch, name: str, facts: Facts) -> None:
    """Let the published sizes be those of the small fake."""
    monkeypatch.setattr(plugins.load("datasets", name), "published", facts)


def _idx(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def _mnist(folder: Path) -> dict[str, NDArray[np.uint8]]:
    arrays = {
        "train-images-idx3": pixels(20, 28, 28),
        "train-labels-idx1": np.arange(20, dtype=np.uint8) % 10,
        "t10k-images-idx3": pixels(10, 28, 28),
        "t10k-labels-idx1": np.arange(10, dtype=np.uint8)[::-1].copy(),
    }
    for name, array in arrays.items():
        _idx(folder / "raw" / f"{name}-ubyte", array)
    return arrays


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_and_its_successor_are_read_from_torchvisions_files(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = _mnist(tmp_path / folder)
    _sized(monkeypatch, name, Facts(20, 10, 10, 1, 28, 2))
    plugin(name).prepare(tmp_path, False)
    images = plugin(name).load(tmp_path)
    assert (images.train_images[:, 0] == arrays["train-images-idx3"]).all()
    assert (images.test_images[:, 0] == arrays["t10k-images-idx3"]).all()
    assert images.train_labels.tolist() == arrays["train-labels-idx1"].tolist()
    assert images.test_labels.tolist() == arrays["t10k-labels-idx1"].tolist()
    assert images.class_names[8] == {"mnist": "8", "fashion_mnist": "Bag"}[name]


def test_files_of_another_size_than_published_are_refused(tmp_path: Path) -> None:
    _mnist(tmp_path / "MNIST")
    assert refusal(plugin("mnist").load, tmp_path) == (
        f"mnist: torchvision's files in {tmp_path} cannot be read: must be "
        f"{KNOWN['mnist']}. Got Facts(train=20, test=10, classes=10, channels=1, side=28, smallest_class=2, class_sizes=()). "
        "Delete them and set `download: true` in the suite."
    )


def test_a_file_that_a_download_left_half_written_is_refused(tmp_path: Path) -> None:
    _mnist(tmp_path / "MNIST")
    broken = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    broken.write_bytes(broken.read_bytes()[:1000])
    message = refusal(plugin("mnist").load, tmp_path)
    assert message.startswith(f"mnist: torchvision's files in {tmp_path} cannot be read. Got RuntimeError: ")
    assert message.endswith(" Delete them and set `download: true` in the suite.")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_torchvisions_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.cifar

    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    classes = {"cifar10": 10, "cifar100": 100}[name]
    train, test = pixels(5 * classes, 3, 32, 32), pixels(classes, 3, 32, 32)
    names = [f"class {number}" for number in range(classes)]
    label_key, names_key = ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
    batches = [f"data_batch_{number}" for number in range(1, 6)] if name == "cifar10" else ["train"]
    folder = tmp_path / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    folder.mkdir()

    def write(file: str, images: NDArray[np.uint8]) -> None:
        labels = (np.arange(len(images)) % classes).tolist()
        (folder / file).write_bytes(pickle.dumps({"data": images.reshape(len(images), -1), label_key: labels}))

    for file, part in zip(batches, np.split(train, len(batches)), strict=True):
        write(file, part)
    write("test_batch" if name == "cifar10" else "test", test)
    (folder / ("batches.meta" if name == "cifar10" else "meta")).write_bytes(pickle.dumps({names_key: names}))
    _sized(monkeypatch, name, Facts(5 * classes, classes, classes, 3, 32, 5))
    images = plugin(name).load(tmp_path)
    assert (images.train_images == train).all() and (images.test_images == test).all()
    assert images.test_labels.tolist() == list(range(classes))
    assert images.class_names == tuple(names)


def test_svhn_is_read_from_torchvisions_files_with_nought_as_class_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets.svhn
    from scipy.io import savemat

    monkeypatch.setattr(torchvision.datasets.svhn, "check_integrity", lambda path, md5=None: Path(path).is_file())
    train, test = pixels(20, 3, 32, 32), pixels(10, 3, 32, 32)
    for file, part in (("train_32x32.mat", train), ("test_32x32.mat", test)):
        labels = np.arange(len(part)) % 10 + 1  # the files call the digit 0 ten
        savemat(tmp_path / file, {"X": part.transpose(2, 3, 1, 0), "y": labels.astype(np.uint8)[:, None]})
    _sized(monkeypatch, "svhn", Facts(20, 10, 10, 3, 32, 2))
    images = plugin("svhn").load(tmp_path)
    assert (images.train_images == train).all() and (images.test_images == test).all()
    assert images.test_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("unlabelled", [True, False])
def test_stl10_is_read_with_or_without_its_unlabelled_images(
    unlabelled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets.stl10

    monkeypatch.setattr(torchvision.datasets.stl10, "check_integrity", lambda path, md5=None: Path(path).is_file())
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    parts = {"train": pixels(20, 3, 96, 96), "unlabeled": pixels(5, 3, 96, 96), "test": pixels(10, 3, 96, 96)}
    for part, images in parts.items():
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())  # columns first
        (folder / f"{part}_y.bin").write_bytes((np.arange(len(images)) % 10 + 1).astype(np.uint8).tobytes())
    data = plugin("stl10", unlabelled=unlabelled)
    found = data._read(tmp_path)
    expected = np.concatenate([parts["train"], parts["unlabeled"]]) if unlabelled else parts["train"]
    assert (found.train_images == expected).all() and (found.test_images == parts["test"]).all()
    assert found.train_labels.tolist() == [*range(10), *range(10), *([-1] * 5 if unlabelled else [])]
    assert found.class_names[0] == "airplane"


def test_stl10_knows_its_sizes_with_and_without_unlabelled_images(tmp_path: Path) -> None:
    assert plugin("stl10", unlabelled=False).facts(tmp_path) == replace(KNOWN["stl10"], train=5_000)
    archive(tmp_path / "stl10.npz", train_labels=np.array([0, 1, -1, 1, -1, 0]))
    for unlabelled, count in ((True, 6), (False, 4)):
        data = plugin("stl10", unlabelled=unlabelled)
        assert data.facts(tmp_path) == data.load(tmp_path).facts() == Facts(count, 3, 2, 1, 4, 2)


# archives -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 4), None), ((4, 4, 1), (0, 3, 1, 2)), ((4, 4, 3), (0, 3, 1, 2)), ((3, 4, 4), (0, 1, 2, 3))]
)
def test_images_of_any_layout_become_channels_first(
    shape: tuple[int, ...], axes: tuple[int, ...] | None, tmp_path: Path
) -> None:
    train, test = pixels(6, *shape), pixels(3, *shape)
    archive(tmp_path / "a.npz", train_images=train, test_images=test)
    images = plugin("arrays", file="a.npz").load(tmp_path)
    expected = train[:, None] if axes is None else train.transpose(axes)
    assert (images.train_images == expected).all()
    assert images.train_images.flags["C_CONTIGUOUS"]
    assert plugin("arrays", file="a.npz").facts(tmp_path) == images.facts()


def test_sizes_are_read_without_reading_the_pixels(tmp_path: Path) -> None:
    train = np.zeros((2000, 64, 64, 3), np.uint8)  # 25 MB
    labels = np.arange(2000) % 7
    archive(tmp_path / "a.npz", train_images=train, train_labels=labels, test_images=train[:7], test_labels=labels[:7])
    data = plugin("arrays", file="a.npz")
    data.facts(tmp_path)
    tracemalloc.start()
    found = data.facts(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == Facts(2000, 7, 7, 3, 64, 285, (286, 286, 286, 286, 286, 285, 285))
    assert peak < 1_000_000


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_kind_and_in_a_column_become_int64(kind: type, tmp_path: Path) -> None:
    archive(tmp_path / "a.npz", train_labels=np.array([[0], [1], [2], [0], [1], [2]], kind))
    images = plugin("arrays", file="a.npz").load(tmp_path)
    assert images.train_labels.dtype == np.int64 and images.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.class_names == ("0", "1", "2")


def test_a_compressed_archive_and_names_in_bytes_are_read(tmp_path: Path) -> None:
    arrays = dict(np.load(archive(tmp_path / "a.npz")))
    np.savez_compressed(tmp_path / "b.npz", **arrays, classes=np.array([b"cat", "chien é".encode()]))
    images = plugin("arrays", file="b.npz").load(tmp_path)
    assert (images.train_images[:, 0] == arrays["train_images"]).all()
    assert images.class_names == ("cat", "chien é")


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (
            np.array(["dog", "cat", "", "cat", "dog", "dog"]),
            np.array(["cat", "dog", "cat"]),
            ([1, 0, -1, 0, 1, 1], ("cat", "dog")),
        ),
        (np.eye(2)[[1, 0, 1, 0, 1, 1]], np.eye(2)[[0, 1, 0]], ([1, 0, 1, 0, 1, 1], ("0", "1"))),
        (np.array([[1.0], [0], [-1], [0], [1], [1]]), np.array([0.0, 1, 0]), ([1, 0, -1, 0, 1, 1], ("0", "1"))),
    ],
)
def test_arrays_have_labels_of_any_form(train: Any, test: Any, expected: Any, tmp_path: Path) -> None:
    archive(tmp_path / "a.npz", train_labels=train, test_labels=test)
    images = plugin("arrays", file="a.npz").load(tmp_path)
    assert (images.train_labels.tolist(), images.class_names) == expected and images.test_labels.tolist() == [0, 1, 0]
    assert plugin("arrays", file="a.npz").facts(tmp_path) == images.facts()


def test_arrays_by_keras_names_are_read(tmp_path: Path) -> None:
    arrays = dict(np.load(archive(tmp_path / "a.npz")))
    np.savez(tmp_path / "b.npz", **{f"{'x' if 'images' in k else 'y'}_{k.split('_')[0]}": v for k, v in arrays.items()})
    assert sorted(np.load(tmp_path / "b.npz")) == ["x_test", "x_train", "y_test", "y_train"]
    found, expected = (plugin("arrays", file=f"{name}.npz").load(tmp_path) for name in "ba")
    assert found.content_hash == expected.content_hash


@pytest.mark.parametrize("bands", [2, 8, 16])
@pytest.mark.parametrize("last", [False, True])
def test_arrays_have_up_to_16_bands(bands: int, last: bool, tmp_path: Path) -> None:
    train, test = pixels(6, bands, 20, 20), pixels(3, bands, 20, 20)
    stored = (train.transpose(0, 2, 3, 1), test.transpose(0, 2, 3, 1)) if last else (train, test)
    archive(tmp_path / "a.npz", train_images=stored[0], test_images=stored[1])
    images = plugin("arrays", file="a.npz").load(tmp_path)
    assert (images.train_images == train).all() and (images.test_images == test).all()
    archive(tmp_path / "a.npz", train_images=pixels(6, 17, 20, 20))
    assert "with 1 to 16 channels. Got uint8 (6, 17, 20, 20)" in refusal(plugin("arrays", file="a.npz").facts, tmp_path)


@pytest.mark.parametrize("white", [4095, "data"])
def test_arrays_of_any_number_become_bytes_by_their_white(white: Any, tmp_path: Path) -> None:
    train, test = RANDOM.integers(0, 4000, (6, 4, 4)), RANDOM.integers(0, 4096, (3, 4, 4)).astype(np.float32)
    archive(tmp_path / "a.npz", train_images=train.astype(np.uint16), test_images=test)
    data = plugin("arrays", file="a.npz", white=white)
    images, top = data.load(tmp_path), train.max() if white == "data" else white
    assert (images.train_images[:, 0] == np.rint(train * (255 / top))).all()
    assert np.abs(images.test_images[:, 0] - np.minimum(test * (255 / top), 255)).max() <= 0.5001
    assert data.facts(tmp_path) == images.facts()
    assert "or set `white`." in refusal(plugin("arrays", file="a.npz").facts, tmp_path)


def test_unlabelled_training_images_are_welcome(tmp_path: Path) -> None:
    archive(tmp_path / "a.npz", train_labels=np.array([-1, 1, 0, 1, -1, -1]))
    assert plugin("arrays", file="a.npz").facts(tmp_path) == Facts(6, 3, 2, 1, 4, 1, (1, 2))


class Pickled:
    """Stands for code that an archive could bring along."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle_was_run",)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pickle": (
        {"classes": np.array([Pickled(), Pickled()], dtype=object)},
        (
            "classes: must be plain data, not pickled objects, which could run code when read. Got dtype object. "
            "Save numbers or strings. Text is saved by `classes.astype(str)`."
        ),
    ),
    "pickled pixels": (
        {"train_images": np.array([Pickled()] * 6, dtype=object)},
        (
            "train_images: must be plain data, not pickled objects, which could run code when read. Got dtype object. "
            "Save numbers or strings. Text is saved by `train_images.astype(str)`."
        ),
    ),
    "missing": (
        {"test_images": None, "test_labels": None},
        (
            "must hold arrays train_images, train_labels, test_images, test_labels and, if you like, classes. "
            "Got no test_images, test_labels among 'train_images', 'train_labels'. Add them, or set `test_fraction: 0.2`."
        ),
    ),
    "float": (
        {"train_images": np.zeros((6, 4, 4))},
        (
            "train_images: must be uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side) with "
            '1 to 16 channels. Got float64 (6, 4, 4). Convert them: `(255 * x).round().astype("uint8")` if they lie in 0..1, '
            'or `x.astype("uint8")` if in 0..255; or set `white`.'
        ),
    ),
    "oblong": (
        {"train_images": pixels(6, 4, 5, 3)},
        (
            "train_images: must be uint8 (M, side, side), (M, side, side, channels) or (M, channels, side, side) with "
            "1 to 16 channels. Got uint8 (6, 4, 5, 3). Make them square: `x[:, :4, :4]`, or resize them."
        ),
    ),
    "two sizes": (
        {"test_images": pixels(3, 5, 5)},
        "train and test images differ: (1, 4, 4), (1, 5, 5). Resize or recolour one part.",
    ),
    "fewer labels": (
        {"train_labels": np.array([0, 1])},
        "train: one label an image. Got (2,) labels, 6 images. Leave out the images without one, or give them -1.",
    ),
    "float labels": (
        {"train_labels": np.full(6, 0.5)},
        (
            "train_labels: must be whole numbers. Got 6 that are not, such as 0.5, 0.5, 0.5, 0.5, 0.5, 0.5. Mend them; an "
            "image without a label has -1: np.nan_to_num(labels, nan=-1)."
        ),
    ),
    "unlabelled test": (
        {"test_labels": np.array([0, -1, 1])},
        (
            "test: labels must count classes from 0. Got -1. Leave these images out: `x[labels >= 0]`, "
            "`labels[labels >= 0]`."
        ),
    ),
    "stray label": (
        {"train_labels": np.array([0, 1, 0, 1, 0, 10**12])},
        (
            "labels must count classes from 0, fewer than the 6 training images. Got 1000000000000. Renumber them with "
            "`names, labels = np.unique(labels, return_inverse=True)`, or name the classes in an array `classes`."
        ),
    ),
    "label without a name": (
        {"classes": np.array(["only"])},
        (
            "train: labels must lie in -1..0, as there are 1 names in `classes`. Got 1. Renumber them with "
            "`names, labels = np.unique(labels, return_inverse=True)`."
        ),
    ),
    "odd names": (
        {"classes": np.zeros(2)},
        "classes: must be names (C,). Got float64 (2,). Save a list of strings.",
    ),
    "empty": (
        {"test_images": pixels(0, 4, 4), "test_labels": np.zeros(0, int)},
        "test: must hold at least one image. Got none.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("action", ["facts", "load"])
def test_an_archive_that_breaks_a_rule_is_refused_before_and_while_loading(
    case: str, action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes, message = REFUSED[case]
    path = archive(tmp_path / "a.npz", **changes)
    assert refusal(getattr(plugin("arrays", file="a.npz"), action), tmp_path) == f"{path}: {message}"
    assert not (tmp_path / "pickle_was_run").exists()


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("not a zip")
    assert refusal(plugin("arrays", file="a.npz").facts, tmp_path) == (
        f"{tmp_path}/a.npz: must be an .npz archive that can be read. Got BadZipFile: File is not a zip file. "
        "Write it again with numpy.savez."
    )


def test_an_archive_cut_short_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert "must be an .npz archive that can be read" in refusal(plugin("arrays", file="a.npz").facts, tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_with_a_damaged_pixel_is_refused_when_it_is_loaded(compressed: bool, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", train_images=pixels(6, 40, 40), test_images=pixels(3, 40, 40))
    if compressed:
        np.savez_compressed(path, **dict(np.load(path)))
    raw = bytearray(path.read_bytes())
    raw[2000] ^= 255
    path.write_bytes(raw)
    assert "must be an .npz archive that can be read. Got " in refusal(plugin("arrays", file="a.npz").load, tmp_path)


def test_a_header_that_promises_more_than_the_archive_holds_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"(6, 4, 4)", b"(9000000000, 4, 4)"))
    with zipfile.ZipFile(tmp_path / "b.npz") as made:
        assert b"9000000000" in made.read("train_images.npy")
    assert refusal(plugin("arrays", file="b.npz").load, tmp_path).startswith(
        f"{tmp_path}/b.npz: train_images: must hold 144000000000 bytes, as its header says. Got "
    )


def test_a_missing_file_says_where_it_must_be(tmp_path: Path) -> None:
    for action in (plugin("arrays", file="a.npz").facts, plugin("arrays", file="a.npz").load):
        assert refusal(action, tmp_path) == (
            f"arrays: file: must be in {tmp_path}. Got no file {tmp_path}/a.npz. Put an .npz there with arrays "
            "train_images, train_labels, test_images, test_labels and, if you like, classes."
        )


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a.npz", "x/../../a", "C:/a", "C:a", "\\\\host\\a", "..\\a", "", "a\0b"]
)
def test_a_path_that_could_leave_data_dir_is_refused(path: str, tmp_path: Path) -> None:
    rest = f"must be a path inside data_dir. Got {path!r}. Name it relative to data_dir, without '..'."
    assert refusal(plugin("arrays", file=path).facts, tmp_path) == f"arrays: file: {rest}"
    assert refusal(plugin("image_folder", folder=path).facts, tmp_path) == f"image_folder: folder: {rest}"


def member(shape: tuple[int, ...], dtype: str, data: bytes = b"", header: int = 0) -> bytes:
    """An array's file, whose header may claim anything; `header` bytes of blanks make it longer."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode() + b" " * header + b"\n"
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + data


def bomb(folder: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    """An archive of 4 images, with some members replaced."""
    whole = {f"{part}_images": member((4, 2, 2), "|u1", bytes(16)) for part in ("train", "test")}
    whole |= {f"{part}_labels": member((4,), "|i1", bytes(4)) for part in ("train", "test")}
    with zipfile.ZipFile(folder / "a.npz", "w", method) as file:
        for name, content in (whole | members).items():
            file.writestr(f"{name}.npy", content)
    return folder / "a.npz"


BOMBS: dict[str, tuple[dict[str, bytes], str]] = {
    "no bytes": ({"classes": member((10**15,), "|S0")}, "classes: must have bytes in every element. Got |S0"),
    "no bytes, text": ({"classes": member((10**15,), "<U0")}, "must have bytes in every element."),
    "labels without bytes": ({"train_labels": member((10**15,), "|V0")}, "must have bytes in every element."),
    "more than it holds": ({"train_images": member((10**9, 99, 99), "|u1")}, "bytes, as its header says. Got 0."),
    "a long header": ({"train_images": member((4, 2, 2), "|u1", bytes(16), 10**8)}, "must be an .npz archive"),
    "many classes": ({"classes": member((2 * 10**6,), "|S1", bytes(2 * 10**6))}, "must be at most 1000000 names"),
    "many labels": ({"train_labels": member((10**7,), "|i1", bytes(10**7))}, "one label an image. Got (10000000,)"),
}


@pytest.mark.parametrize("case", BOMBS)
@pytest.mark.parametrize("action", ["facts", "load"])
def test_an_archive_that_lies_about_its_size_is_refused_before_it_is_read(
    case: str, action: str, tmp_path: Path
) -> None:
    members, message = BOMBS[case]
    path = bomb(tmp_path, **members)
    tracemalloc.start()
    assert str(path) in (said := refusal(getattr(plugin("arrays", file="a.npz"), action), tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in said and peak < 20_000_000


def test_an_archive_larger_than_the_memory_is_refused_by_its_headers(tmp_path: Path, monkeypatch: Any) -> None:
    images, labels = member((10**6, 2, 2), "|u1", bytes(4 * 10**6)), member((10**6,), "|i1", bytes(10**6))
    path = bomb(tmp_path, train_images=images, train_labels=labels)
    assert path.stat().st_size < 10**6
    assert plugin("arrays", file="a.npz").facts(tmp_path).train == 10**6
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 5 * 10**7)
    monkeypatch.setattr(_sources, "_array", None)  # would fail if it were called
    for action in (plugin("arrays", file="a.npz").facts, plugin("arrays", file="a.npz").load):
        rule = "must fit in half of this machine's memory, 25000000 bytes, when it is unpacked"
        assert f"{path}: {rule}. Got 37" in refusal(action, tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(method: int, tmp_path: Path) -> None:
    path = bomb(tmp_path, method)
    message = f"{path}: train_images: must be stored or deflated. Got another compression. Write it again."
    assert refusal(plugin("arrays", file="a.npz").facts, tmp_path) == message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_an_archive_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cifar10.npz")
    for action in (plugin("cifar10").facts, plugin("cifar10").load):
        assert "Got a named pipe, not a regular file. Write it again" in refusal(action, tmp_path)


def test_the_memory_is_that_of_the_container_if_it_has_less(tmp_path: Path) -> None:
    whole = memory_limit.machine_bytes()
    limit = tmp_path / "sys" / "fs" / "cgroup" / "memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert memory_limit.machine_bytes(tmp_path) >= whole > 10**8
    limit.write_text("1000000\n")
    assert memory_limit.machine_bytes(tmp_path) == 10**6


# image folders --------------------------------------------------------------------------------------------------------


def picture(path: Path, colour: Any = (200, 100, 50), mode: str = "RGB", size: tuple[int, int] = (20, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, 3 and 2 training images, 1 test image."""
    for name in ("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png"):
        picture(tmp_path / "pets" / "train" / name, (len(name), ord(name[0]), ord(name[4])))
    picture(tmp_path / "pets" / "test" / "dog" / "1.png")
    return tmp_path / "pets"


def pets(side: int = 8) -> Any:
    return plugin("image_folder", folder="pets", side=side)


def decoded(tmp_path: Path, path: Path, side: int = 8) -> NDArray[np.uint8]:
    """The one test image of a folder, (3, side, side)."""
    picture(tmp_path / "one" / "train" / "a" / "x.png")
    (tmp_path / "one" / "test" / "a").mkdir(parents=True)
    path.rename(tmp_path / "one" / "test" / "a" / path.name)
    return np.asarray(plugin("image_folder", folder="one", side=side).load(tmp_path).test_images[0])


def test_a_folder_a_class_is_read_in_the_order_of_names(folder: Path) -> None:
    assert pets().facts(folder.parent) == Facts(
        train=5, test=1, classes=2, channels=3, side=8, smallest_class=2, class_sizes=(3, 2)
    )
    images = pets().load(folder.parent)
    assert images.facts() == pets().facts(folder.parent)
    assert images.class_names == ("cat", "dog")
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1] and images.test_labels.tolist() == [1]
    assert images.train_images[:, 2, 0, 0].tolist() == [ord(number) for number in "12312"]
    assert images.test_images[0, :, 0, 0].tolist() == [200, 100, 50]


def test_val_stands_for_test_and_hidden_files_are_passed_over(folder: Path) -> None:
    expected = pets().load(folder.parent).content_hash
    (folder / "test").rename(folder / "val")
    (folder / "train" / ".DS_Store").touch()
    (folder / "train" / "cat" / ".DS_Store").touch()
    assert pets().load(folder.parent).content_hash == expected


MODES: dict[str, tuple[str, Any, list[int]]] = {
    "grey.png": ("L", 77, [77, 77, 77]),
    "grey_alpha.png": ("LA", (77, 0), [77, 77, 77]),
    "bit.png": ("1", 1, [255, 255, 255]),
    "sixteen.png": ("I;16", 257 * 99, [99, 99, 99]),
    "sixteen.tif": ("I;16", 257 * 99 + 100, [99, 99, 99]),
    "palette.gif": ("P", 0, [0, 0, 0]),
    "alpha.webp": ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
    "transparent.png": ("RGBA", (10, 20, 30, 0), [10, 20, 30]),
    "cmyk.tif": ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
    "plain.bmp": ("RGB", (10, 20, 30), [10, 20, 30]),
    "plain.ppm": ("RGB", (10, 20, 30), [10, 20, 30]),
}


@pytest.mark.parametrize("name", MODES)
def test_every_kind_of_pixel_becomes_rgb(name: str, tmp_path: Path) -> None:
    mode, colour, expected = MODES[name]
    found = decoded(tmp_path, picture(tmp_path / name, colour, mode))
    assert np.abs(found.astype(int) - np.array(expected)[:, None, None]).max() <= (4 if name.endswith("webp") else 0)


def test_a_palette_is_looked_up_and_its_transparency_makes_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    image = Image.new("P", (10, 10), 1)
    image.putpalette([0, 0, 0, 40, 50, 60])
    image.save(tmp_path / "p.png", transparency=bytes([255, 10]))
    assert decoded(tmp_path, tmp_path / "p.png")[:, 0, 0].tolist() == [40, 50, 60]
    assert not recwarn.list


def test_a_jpeg_in_cmyk_is_not_inverted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    assert np.abs(decoded(tmp_path, tmp_path / "c.jpg")[:, 0, 0].astype(int) - [255, 0, 0]).max() <= 3


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat([[0], [255]], 8, axis=0).repeat(16, axis=1).astype(np.uint8))  # dark above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "e.png", exif=exif)
    found = decoded(tmp_path, tmp_path / "e.png")
    assert found[0, 0, 0] == 0 and found[0, -1, 0] == 255


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (7, 5)])
def test_an_image_of_any_shape_gives_the_square_at_its_centre(size: tuple[int, int], tmp_path: Path) -> None:
    found = decoded(tmp_path, picture(tmp_path / "x.png", (1, 2, 3), size=size))
    assert found.shape == (3, 8, 8) and (found == np.array([1, 2, 3])[:, None, None]).all()


def test_resizing_equals_torchvisions_resize_and_centre_crop(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    wave = np.add.outer(np.sin(np.arange(60) / 7), np.cos(np.arange(90) / 9)) * 60 + 127
    image = Image.fromarray(wave.astype(np.uint8))  # 90 wide, 60 high: both crops fall on whole pixels
    image.save(tmp_path / "x.png")
    expected = v2.Compose([v2.Resize(20), v2.CenterCrop(20)])(image)
    difference = decoded(tmp_path, tmp_path / "x.png", side=20)[0].astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference[:, 1:-1]).max() <= 1  # the outermost columns look past the crop there
    assert np.abs(difference).max() <= 4


def test_a_truncated_image_is_named(folder: Path) -> None:
    path = folder / "train" / "dog" / "3.png"
    Image.fromarray(pixels(30, 30, 3)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    expected = f"{path}: must be a whole image file. Got OSError: image file is truncated"
    for action in (lambda: pets().prepare(folder.parent, False), lambda: pets().load(folder.parent)):
        message = refusal(action)
        assert message.startswith(expected) and message.endswith(". Mend or remove it.")
    assert not list(folder.glob(".cl_semisup*tmp"))


@pytest.mark.parametrize("content", [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_a_file_that_is_no_image_is_named(content: bytes, folder: Path) -> None:
    path = folder / "train" / "cat" / "notes.jpg"
    path.write_bytes(content)
    got = f"UnidentifiedImageError: cannot identify image file {str(path)!r}. Mend or remove it."
    said = (
        f"{path}: must be a whole image file. Got {got if content else 'an empty file. Fetch it again, or remove it.'}"
    )
    assert refusal(pets().load, folder.parent) == said


def test_pixels_without_a_known_white_are_refused(folder: Path) -> None:
    path = picture(folder / "test" / "cat" / "depth.tif", 1.5, "F")
    rule = "must have pixels of 8 or 16 bits, or a white that is told"
    assert f"{path}: {rule}. Got float32 up to 1.5. Set `white`" in refusal(pets().load, folder.parent)
    picture(path, 70_000, "I")
    assert f"{path}: {rule}. Got int32 up to 70000. Set `white`" in refusal(pets().load, folder.parent)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [399, 100])  # PIL itself only warns up to twice its limit
def test_a_decompression_bomb_is_named(limit: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    first, *others = refusal(pets().load, folder.parent).splitlines()
    assert first == (
        f"{folder}/train/cat/1.png: must have at most {limit} pixels, PIL's limit against decompression bombs. "
        "Got more. Shrink or remove it."
    )
    assert len(others) == 5  # every other image is as large


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "test" / "dog" / "pipe.png")
    assert ": must be a file that can be read. Got a named pipe, not a regular file. Mend or remove it." in refusal(
        pets().load, folder.parent
    )


def test_a_link_to_nowhere_is_named(folder: Path) -> None:
    (folder / "test" / "dog" / "2.png").symlink_to(folder / "gone.png")
    assert refusal(pets().load, folder.parent) == (
        f"{folder}/test/dog/2.png: must be a file that can be read. Got No such file or directory. Mend or remove it."
    )


def test_a_list_of_classes_leaves_out_the_other_folders(folder: Path) -> None:
    picture(folder / "test" / "cat" / "1.png")
    (folder.parent / "dogs.txt").write_text("dog a faithful animal\n")
    images = plugin("image_folder", folder="pets", side=8, classes="dogs.txt").load(folder.parent)
    assert images.class_names == ("dog",) and images.train_labels.tolist() == [0, 0] and len(images.test_images) == 1
    (folder.parent / "dogs.txt").write_text("wolf\n")
    data = plugin("image_folder", folder="pets", classes="dogs.txt")
    assert "every line must be a class of the data. Got 1 that are not: 'wolf'." in refusal(data.facts, folder.parent)


def test_folders_in_class_folders_belong_to_the_class(folder: Path) -> None:
    picture(folder / "train" / "cat" / "wild" / "lynx" / "1.png", (1, 2, 3))
    data = plugin("image_folder", folder="pets", side=8, nested=True)
    images = data.load(folder.parent)
    assert images.train_labels.tolist() == [0, 0, 0, 0, 1, 1] and images.train_images[3, :, 0, 0].tolist() == [1, 2, 3]
    assert data.facts(folder.parent) == images.facts()


def test_class_folders_may_be_links_and_those_out_of_data_dir_are_told(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder.parent.joinpath("data").mkdir()
    folder.rename(root / "pets")
    picture(tmp_path / "elsewhere" / "owl" / "1.png", (7, 8, 9))
    shutil.copytree(root / "pets" / "train" / "cat", root / "kitten")
    (root / "pets" / "train" / "kitten").symlink_to(root / "kitten")
    data = plugin("image_folder", folder="pets", side=8)
    assert data.facts(root).train == 8 and not [n for n in data.layout(root).notes if "link" in n]
    (root / "pets" / "train" / "owl").symlink_to(tmp_path / "elsewhere" / "owl")
    assert data.load(root).train_images[-1, :, 0, 0].tolist() == [7, 8, 9]
    note = f"1 classes are links out of data_dir: 'owl' is '{tmp_path}/elsewhere/owl'."
    assert note in data.layout(root).notes


def test_settings_of_pixels_have_caches_of_their_own_and_keep_one_another(folder: Path) -> None:
    grey = plugin("image_folder", folder="pets", side=8, channels=1)
    images = grey.load(folder.parent)
    assert images.train_images.shape == (5, 1, 8, 8) and grey.facts(folder.parent) == images.facts()
    luma = round(0.299 * 9 + 0.587 * ord("c") + 0.114 * ord("1"))
    assert abs(int(images.train_images[0, 0, 0, 0]) - luma) <= 1
    assert pets().load(folder.parent).train_images.shape == (5, 3, 8, 8)


def test_a_folder_that_is_not_laid_out_as_told_is_refused(folder: Path) -> None:
    root = folder.parent
    rule = "must hold train/<class>/* and test/<class>/* (or val)"
    remedy, other = (
        "Add it, or mend folder or data_dir.",
        "Add it, set `test_fraction: 0.2`, or mend folder or data_dir.",
    )
    (root / "void" / "train").mkdir(parents=True)
    missing = plugin("image_folder", folder="gone").facts
    assert refusal(missing, root) == f"image_folder: {root}/gone {rule}. Got no folder train. {remedy}"
    half = plugin("image_folder", folder="void").facts
    assert refusal(half, root) == f"image_folder: {root}/void {rule}. Got no folder test or val. {other}"
    (root / "void" / "val").mkdir()
    none = f"image_folder: {root}/void/train must hold <class>/<image>. Got none. Add some."
    assert refusal(half, root) == none
    (root / "void" / "train" / "a").mkdir()
    empty = f"image_folder: {root}/void/train/a must hold an image. Got none. Add some, or remove the folder."
    assert refusal(half, root) == empty
    picture(root / "void" / "train" / "a" / "x.png")
    assert refusal(half, root) == f"image_folder: {root}/void/val must hold <class>/<image>. Got none. Add some."
    picture(root / "void" / "val" / "b" / "x.png")
    strange = f"image_folder: {root}/void/val must hold no class that train lacks. Got 'b'."
    assert refusal(half, root) == f"{strange} Remove it, or add it to {root}/void/train."
    picture(root / "void" / "train" / "b" / "deep" / "x.png")
    deep = f"image_folder: {root}/void/train/b must hold images only. Got a folder 'deep'. Set `nested: true`, or move it, for instance with `mv b/deep/* b/`."
    assert refusal(half, root) == deep
    (folder / "train" / "labels.csv").touch()
    stray = f"image_folder: {folder}/train/labels.csv must be a folder of images. Got a file. Move it out of train."
    assert refusal(pets().facts, root) == stray


def test_images_are_decoded_once_and_stay_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets().prepare(folder.parent, False)
    kept = sorted(folder.glob(".cl_semisup-8-*.npy"))
    assert len(kept) == 2 and not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))
    monkeypatch.setattr(_pixels, "decode", None)  # would fail if it were called
    images = pets().load(folder.parent)
    assert isinstance(images.train_images, np.memmap) and isinstance(images.test_images, np.memmap)
    assert isinstance(images.train_images, np.memmap)


def test_kept_pixels_are_neither_copied_nor_read_into_memory_at_once(folder: Path) -> None:
    for number in range(40):
        picture(folder / "train" / "cat" / f"more{number}.png")
    images = pets(side=256).load(folder.parent)  # 9 MB
    tracemalloc.start()
    again = pets(side=256).load(folder.parent)
    assert again.content_hash == images.content_hash
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.train_images.nbytes > 8_000_000 and peak < 1_000_000


def test_a_changed_file_or_side_is_decoded_anew(folder: Path) -> None:
    before = pets().load(folder.parent).content_hash
    assert pets(side=16).load(folder.parent).train_images.shape == (5, 3, 16, 16)
    path = picture(folder / "train" / "cat" / "1.png", (9, 9, 9))
    os.utime(path, ns=(0, 0))
    images = pets().load(folder.parent)
    assert images.content_hash != before and images.train_images[0].max() == 9


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"junk", None])
def test_a_damaged_cache_is_made_anew(damage: bytes | None, folder: Path) -> None:
    before = pets().load(folder.parent).content_hash
    for path in folder.glob(".cl_semisup-*.npy"):
        path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert pets().load(folder.parent).content_hash == before
    np.save(path, np.zeros((5, 3, 9, 9), np.uint8))  # of another shape
    assert pets().load(folder.parent).content_hash == before


@pytest.mark.parametrize("full", [False, True])
def test_without_room_for_the_cache_images_are_decoded_into_memory(
    full: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pets().load(folder.parent).content_hash
    for path in folder.glob(".cl_semisup-*"):
        path.unlink()

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC if full else errno.EROFS, "refused")

    if full:
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(files, "open_own", refuse)  # as in a read-only folder; root may write there
    pets().prepare(folder.parent, False)
    images = pets().load(folder.parent)
    assert images.content_hash == expected and not isinstance(images.train_images, np.memmap)
    assert not list(folder.glob(".cl_semisup*"))


def test_more_images_than_are_decoded_at_a_time_keep_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pets().load(folder.parent).content_hash
    for path in folder.glob(".cl_semisup-*"):
        path.unlink()
    monkeypatch.setattr(_mapped, "CHUNK", 2)
    assert pets().load(folder.parent).content_hash == expected


def test_an_image_larger_than_the_memory_is_refused_by_its_header(folder: Path, monkeypatch: Any) -> None:
    path = picture(folder / "train" / "cat" / "0.png", size=(900, 900))
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 10**7)
    assert f"{path}: must fit in half of this machine's memory" in refusal(pets().load, folder.parent)


def test_without_a_cache_a_folder_larger_than_the_memory_is_refused(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_mapped, "_write_cache", lambda *_: False)
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 10**4)
    monkeypatch.setattr(_pixels, "decode", None)  # would fail if it were called
    message = f"image_folder: {folder}, without a cache: must fit in half of this machine's memory"
    assert message in refusal(pets(256).load, folder.parent)


def bitmaps(folder: Path) -> tuple[Path, Path]:
    """Two images of one size and one modification time."""
    paths = tuple(picture(folder / "train" / f"{name}.bmp", colour) for name, colour in (("cat/8", 10), ("dog/8", 20)))
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    return paths[0], paths[1]


def exchange(a: Path, b: Path) -> None:
    for old, new in ((a, a.with_suffix(".x")), (b, a), (a.with_suffix(".x"), b)):
        old.rename(new)


def copy_over(a: Path, b: Path) -> None:
    contents = a.read_bytes(), b.read_bytes()
    for path, content in zip((b, a), contents, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))


@pytest.mark.parametrize("swap", [exchange, copy_over])
def test_images_that_change_places_are_decoded_anew_though_size_and_time_stay(swap: Any, folder: Path) -> None:
    a, b = bitmaps(folder)
    before = pets().load(folder.parent).train_images.copy()
    swap(a, b)
    after = pets().load(folder.parent).train_images
    assert (before[3] == after[-1]).all() and (before[-1] == after[3]).all() and (before[3] != before[-1]).any()


def test_old_caches_are_removed_and_those_of_another_side_or_user_stay(folder: Path) -> None:
    pets().prepare(folder.parent, False)
    foreign = folder / f".cl_semisup-8-train-{'0' * 40}.npy"
    first = (folder / f".cl_semisup-8-{'a' * 16}.npy", foreign)
    for path in first:
        path.touch()
    pets(16).prepare(folder.parent, False)
    assert len(list(folder.glob(".cl_semisup-*.npy"))) == 5 and not first[0].exists()
    picture(folder / "train" / "cat" / "1.png", (9, 9, 9))
    pets().prepare(folder.parent, False)
    kept = {path.name.rpartition("-")[0] for path in folder.glob(".cl_semisup-*.npy")} - {foreign.stem}
    assert kept == {".cl_semisup-8-train", ".cl_semisup-8-test", ".cl_semisup-16-test"} and foreign.exists()


def other_pixels(path: Path) -> None:
    """Of the same shape, under the same name, with the same times."""
    before, content = path.stat(), path.read_bytes()
    header = len(content) - np.load(path).nbytes - seal.SEAL_BYTES
    path.write_bytes(content[:header] + bytes(len(content) - header - seal.SEAL_BYTES) + content[-seal.SEAL_BYTES :])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_bytes_with_a_seal(path: Path) -> None:
    """As a plain array, and after it a seal that a stranger could make."""
    np.save(path, np.zeros_like(np.load(path)))
    path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).digest())


def of_another_part(path: Path) -> None:
    """Of this user, under another name, for which it was not made: as many pixels of the same settings."""
    made = pets().load(path.parents[1]).train_images
    content = path.read_bytes()[: -made.nbytes - seal.SEAL_BYTES] + bytes(made.nbytes)
    path.write_bytes(content + seal.of("another name", content))


@pytest.mark.parametrize("change", [other_pixels, other_bytes_with_a_seal, of_another_part])
def test_pixels_under_the_right_name_are_used_only_as_they_were_written(
    change: Callable[[Path], None], folder: Path
) -> None:
    expected = pets().load(folder.parent)
    labels, hash_before = expected.train_labels, expected.content_hash
    for path in folder.glob(".cl_semisup-*-train-*.npy"):
        change(path)
    images = pets().load(folder.parent)
    assert images.content_hash == hash_before and (images.train_labels == labels).all()
    assert isinstance(images.train_images, np.memmap)  # written anew


def test_pixels_that_another_user_prepared_are_not_used(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    expected = pets().load(folder.parent).content_hash
    before = set(folder.glob(".cl_semisup-*.npy"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another"))
    assert pets().load(folder.parent).content_hash == expected
    own = set(folder.glob(".cl_semisup-*.npy")) - before
    assert len(own) == 2
    for theirs, ours in zip(sorted(before), sorted(own), strict=True):
        theirs.rename(ours)  # the name is ours, the seal is theirs
        other_pixels(ours)
    assert pets().load(folder.parent).content_hash == expected
    key = tmp_path / "of another" / "cl_semisup" / "key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32


def test_a_cache_that_is_a_link_is_not_read(folder: Path) -> None:
    expected = pets().load(folder.parent).content_hash
    for path in folder.glob(".cl_semisup-*.npy"):
        held = np.load(path)
        np.save(folder.parent / path.name, np.zeros_like(held))
        path.unlink()
        path.symlink_to(folder.parent / path.name)
    assert pets().load(folder.parent).content_hash == expected


def test_without_a_key_images_are_decoded_into_memory(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pets().prepare(folder.parent, False)
    assert pets().load(folder.parent).facts() == pets().facts(folder.parent)
    assert not list(folder.glob(".cl_semisup*"))


@pytest.mark.parametrize("target", ["nowhere", "itself", "/dev/null"])
@pytest.mark.parametrize("part", ["test/cat", "train/cow", "test"])
def test_a_link_in_place_of_a_folder_that_leads_nowhere_is_refused(part: str, target: str, folder: Path) -> None:
    if part == "test":  # `val` must not stand in
        (folder / "test").rename(folder / "val")
    (folder / part).symlink_to(Path(part).name if target == "itself" else target)
    assert str(folder / part) in refusal(pets().facts, folder.parent) or part == "test"
    assert refusal(pets().load, folder.parent)


def test_a_link_to_nowhere_in_place_of_the_own_archive_is_refused(tmp_path: Path) -> None:
    _mnist(tmp_path / "MNIST")
    (tmp_path / "mnist.npz").symlink_to("gone.npz")
    for action in (lambda: plugin("mnist").prepare(tmp_path, False), lambda: plugin("mnist").load(tmp_path)):
        assert "mnist.npz: must be an .npz archive that can be read" in refusal(action)


def test_classes_that_the_test_part_lacks_are_among_the_facts(folder: Path, tmp_path: Path) -> None:
    assert pets().facts(folder.parent).untested == ("cat",) == pets().load(folder.parent).facts().untested
    picture(folder / "test" / "cat" / "1.png")
    assert pets().facts(folder.parent).untested == ()
    path = tmp_path / "x.npz"
    grey, labels = np.zeros((6, 4, 4), np.uint8), np.array([0, 1, 2, 3, -1, 0])
    np.savez(path, train_images=grey, train_labels=labels, test_images=grey[:3], test_labels=np.array([2, 2, 0]))
    facts = plugin("arrays", file="x.npz").facts(tmp_path)
    assert (facts.untested, facts.untrained) == (("1", "3"), ())
    np.savez(path, train_images=grey, train_labels=labels % 3, test_images=grey[:3], test_labels=np.array([3, 2, 0]))
    facts = plugin("arrays", file="x.npz").facts(tmp_path)
    assert (facts.untested, facts.untrained) == (("1",), ("3",))


@pytest.mark.parametrize(
    ("link", "target"), [("test/dog", "mouse"), ("train/mouse", "dog"), ("test/mouse", "../test/dog")]
)
def test_a_class_folder_that_is_another_class_by_a_link_is_refused(link: str, target: str, folder: Path) -> None:
    for part in ("train", "test"):
        for name in ("dog", "mouse"):
            picture(folder / part / name / "1.png")
    shutil.rmtree(folder / link)
    (folder / link).symlink_to(target)
    got = refusal(pets().facts, folder.parent)
    assert "must hold a folder of its own for each class. Got one for 'dog' and 'mouse', by a link" in got.replace(
        "'mouse' and 'dog'", "'dog' and 'mouse'"
    )


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_part_that_is_no_folder_is_named_with_what_is_there(part: str, folder: Path) -> None:
    picture(folder / "train" / "dog" / "1.png")
    if part == "val":
        picture(folder / "test" / "dog" / "1.png")
    elif (folder / "test").exists():
        shutil.rmtree(folder / "test")
    (folder / part).symlink_to("gone")
    got = refusal(pets().facts, folder.parent)
    assert f"{folder / part} must be a folder of images. Got a link to no folder. Mend or remove it." in got


# real data, where there is some ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def packs() -> Any:
    """The module that reads the image packs."""
    folder = Path(os.environ.get("CL_SEMISUP_TEST_DATA", HERE.parents[3] / "shared" / "data"))
    path = folder / "load.py"
    if not path.is_file():
        pytest.skip(f"no real data: {path} is missing. Set CL_SEMISUP_TEST_DATA to a folder that holds it.")
    spec = importlib.util.spec_from_file_location("cl_semisup_test_packs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _nearest(images: Images, count: int) -> float:
    """Accuracy of the nearest training image by raw pixels on the first `count` test images."""
    train, test = (x.reshape(len(x), -1).astype(np.float32) for x in (images.train_images, images.test_images[:count]))
    nearest = (np.square(train).sum(axis=1) - 2 * test @ train.T).argmin(axis=1)
    return float((images.train_labels[nearest] == images.test_labels[:count]).mean())


def test_real_digits_are_told_apart_by_their_nearest_neighbour(packs: Any, tmp_path: Path) -> None:
    images, labels, names = packs.load("mnist", "test")
    parts = {"train_images": images[:8000], "train_labels": labels[:8000], "test_images": images[8000:]}
    np.savez(tmp_path / "mnist.npz", **parts, test_labels=labels[8000:], classes=np.array(names))
    plugin("mnist").prepare(tmp_path, False)
    found = plugin("mnist").load(tmp_path)
    assert found.facts() == plugin("mnist").facts(tmp_path)
    assert (len(found.train_images), len(found.test_images), found.classes) == (8000, 2000, 10)
    assert _nearest(found, 200) > 0.9  # 0.1 if labels and images did not belong together
