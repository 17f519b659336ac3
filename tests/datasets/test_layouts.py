"""Data in the layouts that people have, each made small and compared pixel by pixel with PIL and numpy alone."""

import csv
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cl_semisup import plugins
from cl_semisup.data.images import Facts
from cl_semisup.datasets import _labels
from cl_semisup.datasets.cifar100_coarse import SUPERCLASSES
from cl_semisup.errors import DataError

RANDOM = np.random.default_rng(1)
SIDE = 8


def plugin(kind: str, /, **settings: Any) -> Any:
    return plugins.load("datasets", kind)(**settings)


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        action(*args)
    return str(caught.value)


def picture(path: Path, size: tuple[int, int] = (SIDE, SIDE), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def read(path: Path) -> NDArray[np.uint8]:
    """(3, SIDE, SIDE) of a file of that side, read without the package."""
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)


def same(images: NDArray[np.uint8], paths: list[Path]) -> bool:
    return len(images) == len(paths) and all(
        (image == read(path)).all() for image, path in zip(images, paths, strict=True)
    )


# Tiny-ImageNet --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes of two training images, and four validation images, of which one is of each class and one grey."""
    root = tmp_path / "tiny-imagenet-200"
    for name in ("n3", "n1", "n2"):
        for number in range(2):
            picture(root / "train" / name / "images" / f"{name}_{number}.PNG")
        (root / "train" / name / f"{name}_boxes.txt").write_text("n1_0.PNG\t0\t0\t62\t62\n")
    for number, mode in enumerate(("RGB", "RGB", "L", "RGB")):
        picture(root / "val" / "images" / f"val_{number}.PNG", mode=mode)
    lines = [f"val_{number}.PNG\t{name}\t0\t0\t44\t62\n" for number, name in enumerate(("n2", "n1", "n3", "n1"))]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    picture(root / "test" / "images" / "test_0.PNG")
    (root / "wnids.txt").write_text("n3\nn1\nn2\n")
    return root


def test_tiny_imagenet_is_read_as_its_archive_unpacks(tiny: Path) -> None:
    data = plugin("tiny_imagenet", side=SIDE)
    images = data.load(tiny.parent)
    assert data.facts(tiny.parent) == images.facts() == Facts(6, 4, 3, 3, SIDE, 2)
    assert images.class_names == ("n1", "n2", "n3") and images.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.test_labels.tolist() == [1, 0, 2, 0]
    assert same(images.train_images, sorted(tiny.glob("train/*/images/*")))
    assert same(images.test_images, [tiny / "val" / "images" / f"val_{number}.PNG" for number in range(4)])
    assert len(data.data_files(tiny.parent)) == 11 and not data.data_files(tiny.parent / "elsewhere")


def test_a_list_of_classes_leaves_out_the_others(tiny: Path) -> None:
    (tiny.parent / "two.txt").write_text("n3 tench\nn1\n")
    images = plugin("tiny_imagenet", side=SIDE, classes="two.txt").load(tiny.parent)
    assert images.class_names == ("n1", "n3")
    assert images.train_labels.tolist() == [0, 0, 1, 1] and images.test_labels.tolist() == [0, 1, 0]
    (tiny.parent / "two.txt").write_text("n3\nn9\nn8\n")
    assert refusal(plugin("tiny_imagenet", classes="two.txt").facts, tiny.parent) == (
        f"tiny_imagenet: classes: {tiny.parent}/two.txt: every line must be a class of the data. "
        "Got 2 that are not: 'n9', 'n8'. Mend the list."
    )
    (tiny.parent / "two.txt").write_text("n3\nn1\nn3\n")
    assert "must name each class once. Got 'n3' again. Run: sort -u two.txt." in refusal(
        plugin("tiny_imagenet", classes="two.txt").facts, tiny.parent
    )


def test_a_tiny_imagenet_that_is_not_whole_says_what_is_missing(tiny: Path) -> None:
    data = plugin("tiny_imagenet")
    (tiny / "val" / "images" / "val_1.PNG").unlink()
    annotations = tiny / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text() + "val_2.PNG\tn7\t0\t0\t1\t1\n")
    assert refusal(data.facts, tiny.parent).splitlines() == [
        f"{annotations}:2: must name a file of images/. Got 'val_1.PNG'. Unpack it again.",
        f"{annotations}:5: must name a class of train. Got 'n7'. Unpack it again.",
    ]
    annotations.unlink()
    rule = "must hold train/, val/images/ and val/val_annotations.txt, as the archive unpacks"
    remedy = "Run: unzip tiny-imagenet-200.zip."
    assert refusal(data.load, tiny.parent) == (
        f"tiny_imagenet: {tiny} {rule}. Got no val/val_annotations.txt. {remedy}"
    )


# tables ---------------------------------------------------------------------------------------------------------------


ROWS = [("a.png", "cat", "train"), ("b.png", "dog", "train"), ("sub/c d.png", "", "train"), ("e.png", "cat", "test")]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for name, *_ in ROWS:
        picture(tmp_path / "pictures" / name)
    return tmp_path


def table(path: Path, rows: Any, heading: tuple[str, ...] = ("file", "label", "split"), delimiter: str = ",") -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([heading, *rows])


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
def test_a_table_beside_a_flat_folder_is_read(name: str, delimiter: str, flat: Path) -> None:
    table(flat / name, ROWS, delimiter=delimiter)
    data = plugin("image_table", csv=name, folder="pictures", side=SIDE)
    images = data.load(flat)
    assert data.facts(flat) == images.facts() == Facts(3, 1, 2, 3, SIDE, 1)
    assert images.class_names == ("cat", "dog") and images.train_labels.tolist() == [0, 1, -1]
    assert same(images.train_images, [flat / "pictures" / row[0] for row in ROWS[:3]])
    assert same(images.test_images, [flat / "pictures" / "e.png"]) and images.test_labels.tolist() == [0]
    assert data.data_files(flat)[0] == flat / name and len(data.data_files(flat)) == 5


def test_columns_of_any_name_two_tables_and_names_without_an_ending_are_read(flat: Path) -> None:
    heading = ("id", "breed", "note")
    table(flat / "train.csv", [("a", 10, "x"), ("b", 9, "")], heading)
    table(flat / "test.csv", [("e", 10, "")], heading)
    settings = dict(file_column="id", label_column="breed", suffix=".png", test_csv="test.csv", side=SIDE)
    images = plugin("image_table", csv="train.csv", folder="pictures", **settings).load(flat)
    assert images.class_names == ("9", "10")  # as numbers, and not as text
    assert images.train_labels.tolist() == [1, 0] and images.test_labels.tolist() == [1]


def test_lines_of_path_and_label_are_read(flat: Path) -> None:
    (flat / "train.txt").write_text("a.png 0\r\nsub/c d.png -1\nb.png 1\n")
    (flat / "test.txt").write_text("e.png 1\n")
    settings = dict(csv="train.txt", test_csv="test.txt", folder="pictures", side=SIDE)
    images = plugin("image_table", **settings).load(flat)
    assert images.train_labels.tolist() == [0, -1, 1] and images.class_names == ("0", "1")
    assert same(images.train_images, [flat / "pictures" / name for name in ("a.png", "sub/c d.png", "b.png")])
    (flat / "train.txt").write_text("a.png 0\nb.png\n\nc\n")
    assert "every line must be `path label`. Got 2 that are not, lines 2, 4." in refusal(
        plugin("image_table", **settings).facts, flat
    )


@pytest.mark.parametrize(("val", "train", "validation"), [(None, 2, 0), ("validate", 2, 1), ("merge", 3, 0)])
def test_images_called_val_are_for_what_the_setting_says(
    val: str | None, train: int, validation: int, flat: Path
) -> None:
    rows = [("a.png", 0, "train"), ("b.png", 1, "training"), ("e.png", 1, "TEST"), ("sub/c d.png", 0, "valid")]
    table(flat / "t.csv", rows)
    data = plugin("image_table", csv="t.csv", folder="pictures", val=val, side=SIDE)
    images = data.load(flat)
    assert data.facts(flat) == images.facts()
    assert images.train_labels.tolist() == [0, 1, 0][:train] and images.test_labels.tolist() == [1]
    assert (images.val_labels is None) == (validation == 0)
    if images.val_images is not None and images.val_labels is not None:
        assert same(images.val_images, [flat / "pictures" / "sub" / "c d.png"]) and images.val_labels.tolist() == [0]
    table(flat / "t.csv", [("a.png", 0, "train"), ("b.png", 1, "train"), ("e.png", 1, "val")])
    if val is None:  # there is no test
        assert plugin("image_table", csv="t.csv", folder="pictures").load(flat).test_labels.tolist() == [1]


def test_a_table_without_a_split_gives_a_share_of_each_class_for_testing(flat: Path) -> None:
    rows = [(name, label) for label in (0, 1) for name in ("a.png", "b.png", "sub/c d.png", "e.png")]
    table(flat / "t.csv", rows, ("file", "label"))
    data = plugin("image_table", csv="t.csv", folder="pictures", test_fraction=0.25, side=SIDE)
    images = data.load(flat)
    assert data.facts(flat) == images.facts() and images.split
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and images.test_labels.tolist() == [0, 1]


def test_a_list_of_classes_chooses_rows_of_a_table(flat: Path) -> None:
    table(flat / "t.csv", [*ROWS, ("b.png", "golden retriever", "train")])
    (flat / "c.txt").write_text("golden retriever\ncat\n")
    images = plugin("image_table", csv="t.csv", folder="pictures", classes="c.txt").load(flat)
    assert images.class_names == ("cat", "golden retriever") and images.train_labels.tolist() == [0, -1, 1]


def broken_table(case: str, flat: Path) -> str:
    """What is said of a table with one fault."""
    rows: Any = list(ROWS)
    heading: tuple[str, ...] = ("file", "label", "split")
    match case:
        case "column":
            heading = ("filename", "label", "split")
        case "split":
            rows[1] = ("b.png", "dog", "holdout")
        case "cells":
            rows[1] = ("b.png", "dog")
        case "class":
            rows[3] = ("e.png", "cow", "test")
        case "no label":
            rows[3] = ("e.png", "", "test")
        case "no test":
            rows = rows[:3]
        case "outside":
            rows[0] = ("../secret.png", "cat", "train")
        case "missing":
            rows += [(f"no{number}.png", "cat", "train") for number in range(12)]
    table(flat / "t.csv", rows, heading)
    return refusal(plugin("image_table", csv="t.csv", folder="pictures").facts, flat)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "column",
            ":1: must have one column 'file'. Got the columns 'filename', 'label', 'split'. Set `file_column: filename`.",
        ),
        (
            "split",
            "column 'split' must say train, training, test, testing, val, valid, validation, dev. Got 'holdout'.",
        ),
        ("cells", "every line must have 3 cells, as the heading has. Got 1 that have not, lines 3. Mend them."),
        ("class", "t.csv: test: must be classes of the training images. Got 'cow'. Mend them, or name all classes."),
        ("no label", "every test image must have a label. Got 1 without, lines 5. Remove these lines."),
        ("no test", "must name images for test. Got none. Name some in the column 'split' or in a table"),
        (
            "outside",
            "relative to {folder}/pictures, without '..'. Got 1 others, such as '../secret.png' in line 2. Cut",
        ),
        ("missing", "12 files are not there; the first 10 are named."),
    ],
)
def test_a_table_with_a_fault_says_where_it_is(case: str, message: str, flat: Path) -> None:
    assert message.replace("{folder}", str(flat)) in broken_table(case, flat)


# labels ---------------------------------------------------------------------------------------------------------------

WHERE = ("a: train", "a: test")
FORMS: dict[str, tuple[Any, Any, list[int], tuple[str, ...]]] = {
    "integers": ([0, 2, 1, -1], [1], [0, 2, 1, -1], ("0", "1", "2")),
    "a column": ([[0], [2], [1]], [[1]], [0, 2, 1], ("0", "1", "2")),
    "whole floats": ([0.0, 2.0, 1.0], [1.0], [0, 2, 1], ("0", "1", "2")),
    "one-hot": ([[1, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 1, 0]], [0, 2, 1], ("0", "1", "2")),
    "one-hot floats": ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]], [0, 1], ("0", "1")),
    "truth": ([False, True], [True], [0, 1], ("0", "1")),
    "names": (["cat", "dog", "", "cat"], ["dog"], [0, 1, -1, 0], ("cat", "dog")),
    "names in bytes": ([b"cat", "né".encode()], [b"cat"], [0, 1], ("cat", "né")),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_become_numbers(form: str) -> None:
    train, test, expected, names = FORMS[form]
    found = _labels.numbers(np.array(train), np.array(test), None, WHERE)
    assert found[0].tolist() == expected and found[0].dtype == found[1].dtype == np.int64
    assert found[1].tolist() == [expected[np.array(train).tolist().index(np.array(test).tolist()[0])]]
    assert found[2] == names


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([0.0, 0.5], "a: train: must be whole numbers. Got 1 that are not, such as 0.5. Mend them"),
        ([0.0, np.nan], "an image without a label has -1: np.nan_to_num(labels, nan=-1)."),
        (
            [[1, 1], [0, 1]],
            "must have a single 1 in every row, and 0 beside it. Got 1 rows with several ones and 0 without",
        ),
        ([[1, 2], [0, 1]], "rows 0. A run needs one class an image: labels.argmax(axis=1)."),
        ([[0, 0], [0, 1]], "Got 0 rows with several ones and 1 without; rows 0."),
        ([[["a"]]], "must be one label an image: numbers or names (M,), or one-hot rows (M, C). Got <U1 (1, 1, 1)."),
        (
            [0, 99],
            "fewer than the 2 training images. Got 99. Renumber them: np.unique(labels, return_inverse=True)[1].",
        ),
    ],
)
def test_labels_that_are_none_say_how_to_mend_them(train: Any, message: str) -> None:
    assert message in refusal(_labels.numbers, np.array(train), np.array([0, 1]), None, WHERE)


# CIFAR-100's coarse classes -------------------------------------------------------------------------------------------

COARSE = """
    4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17
    18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15
    6 0 17 8 14 13
"""  # of the fine classes in alphabetical order, as in the published files


def test_coarse_classes_of_cifar_are_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.cifar

    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    fine = sorted(name for names in SUPERCLASSES.values() for name in names.split())
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": fine}))
    pixels = RANDOM.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
    for file, part in (("train", pixels), ("test", pixels[:100])):
        labels = (np.arange(len(part)) % 100).tolist()
        (folder / file).write_bytes(pickle.dumps({"data": part.reshape(len(part), -1), "fine_labels": labels}))
    data = plugin("cifar100_coarse")
    monkeypatch.setattr(type(data), "published", Facts(200, 100, 20, 3, 32, 10))
    images = data.load(tmp_path)
    assert images.test_labels.tolist() == [int(number) for number in COARSE.split()]
    assert images.class_names[14] == "people" and (images.train_images == pixels).all()


# MedMNIST -------------------------------------------------------------------------------------------------------------


def medical(path: Path, *shape: int, label_width: int = 1) -> dict[str, NDArray[np.uint8]]:
    counts = {"train": 8, "val": 4, "test": 5}
    arrays = {f"{part}_images": RANDOM.integers(0, 256, (n, *shape), dtype=np.uint8) for part, n in counts.items()}
    arrays |= {f"{part}_labels": np.arange(n, dtype=np.uint8)[:, None] % 2 for part, n in counts.items()}
    np.savez_compressed(path, **arrays)
    return arrays


@pytest.mark.parametrize(("name", "shape", "channels"), [("bloodmnist", (28, 28, 3), 3), ("breastmnist", (28, 28), 1)])
@pytest.mark.parametrize("val", [None, "validate", "merge"])
def test_medmnist_is_read_by_name(
    name: str, shape: tuple[int, ...], channels: int, val: str | None, tmp_path: Path
) -> None:
    arrays = medical(tmp_path / f"{name}.npz", *shape)
    data = plugin("medmnist", name=name, val=val)
    images = data.load(tmp_path)
    assert data.facts(tmp_path) == images.facts()
    used = {"train": ["train", "val"] if val == "merge" else ["train"], "test": ["test"]}
    used |= {"val": ["val"]} if val == "validate" else {}
    assert (images.val_images is None) == (val != "validate")
    for part, parts in used.items():
        expected = np.concatenate([arrays[f"{p}_images"] for p in parts])
        expected = expected.transpose(0, 3, 1, 2) if channels == 3 else expected[:, None]
        assert (getattr(images, f"{part}_images") == expected).all()
        labels = np.concatenate([arrays[f"{p}_labels"] for p in parts])[:, 0]
        assert getattr(images, f"{part}_labels").tolist() == labels.tolist()
    assert ("hue" in data.views) == (channels == 3) and data.views["flip"] == 0.5


def test_medmnist_of_a_larger_side_has_a_file_of_its_own(tmp_path: Path) -> None:
    medical(tmp_path / "breastmnist_64.npz", 64, 64)
    assert plugin("medmnist", name="breastmnist", side=64).facts(tmp_path).side == 64


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("chestmnist", "whose images have several labels each, and a run needs one"),
        ("organmnist3d", "which holds volumes and not images"),
        ("pathmnists", "which is none"),
    ],
)
def test_sets_of_medmnist_that_cannot_be_used_are_refused_with_the_reason(
    name: str, reason: str, tmp_path: Path
) -> None:
    message = refusal(plugin("medmnist", name=name).facts, tmp_path)
    assert message.startswith("medmnist: name: must be one of pathmnist, dermamnist, ")
    assert message.endswith(f"Got {name!r}, {reason}. Name another.")


def test_a_missing_or_damaged_file_of_medmnist_is_told(tmp_path: Path) -> None:
    data = plugin("medmnist", name="pathmnist")
    path = tmp_path / "pathmnist.npz"
    assert not data.data_files(tmp_path)
    expected = f"medmnist: must be in {tmp_path}. Got no file {path}. Put MedMNIST's file there, by that name."
    assert refusal(data.load, tmp_path) == expected
    np.savez(path, train_images=np.zeros((2, 28, 28), np.uint8))
    assert "Got no train_labels, val_images, val_labels, test_images, test_labels." in refusal(data.load, tmp_path)
    path.write_bytes(b"junk")
    assert "must be an .npz archive that can be read. Got BadZipFile" in refusal(data.load, tmp_path)


# WebDataset -----------------------------------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def shards(folder: Path, label: str = "cls") -> list[Path]:
    """Two shards of training images and one of test images; the labels are 1, 0, 1, 0."""
    paths = [picture(folder / "loose" / f"{number}.png") for number in range(4)]
    members: list[dict[str, bytes]] = []
    for number, path in enumerate(paths):
        text = str((number + 1) % 2)
        content = json.dumps({"label": int(text)}) if label == "json" else text
        members.append(
            {f"a/{number}.png": path.read_bytes(), f"a/{number}.{label}": content.encode(), f"a/{number}.txt": b"x"}
        )
    shard(folder / "train-0.tar", members[0] | members[1])
    shard(folder / "train-1.tar", members[2])
    shard(folder / "test-0.tar", members[3])
    return paths


@pytest.mark.parametrize("label", ["cls", "json"])
def test_shards_of_webdataset_are_read_in_their_order(label: str, tmp_path: Path) -> None:
    paths = shards(tmp_path, label)
    data = plugin("webdataset", train="train-*.tar", test="test-*.tar", label=label, side=SIDE)
    images = data.load(tmp_path)
    assert data.facts(tmp_path) == images.facts()
    assert images.train_labels.tolist() == [1, 0, 1] and images.test_labels.tolist() == [0]
    assert same(images.train_images, paths[:3]) and same(images.test_images, paths[3:])
    assert [path.name for path in data.data_files(tmp_path)] == ["train-0.tar", "train-1.tar", "test-0.tar"]


def test_shards_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    shards(tmp_path)
    settings = dict(train="train-*.tar", test="test-*.tar")
    assert "must have a member .txt2. Got 'cls', 'png', 'txt'. Set `label: cls`." in refusal(
        plugin("webdataset", **settings, label="txt2").facts, tmp_path
    )
    braces = refusal(plugin("webdataset", train="train-{0..1}.tar", test="test-*.tar").facts, tmp_path)
    assert "train: must be a name or have `*`. Got 'train-{0..1}.tar'. Write `*` for the braces." in braces
    assert "test: must name shards in" in refusal(plugin("webdataset", train="train-*.tar", test="no*").facts, tmp_path)
    assert "must be a path inside data_dir" in refusal(plugin("webdataset", train="../*", test="t").facts, tmp_path)
    whole = (tmp_path / "test-0.tar").read_bytes()
    (tmp_path / "test-0.tar").write_bytes(whole[:700])
    assert "must be an uncompressed tar file that can be read" in refusal(
        plugin("webdataset", **settings).facts, tmp_path
    )
    with tarfile.open(tmp_path / "test-0.tar", "w:gz") as archive:
        archive.add(tmp_path / "loose" / "0.png", "0.png")
    assert "Run gunzip, or write it again." in refusal(plugin("webdataset", **settings).facts, tmp_path)
    shard(tmp_path / "test-0.tar", {"0.png": b"junk", "0.cls": b"0"})
    assert f"{tmp_path}/test-0.tar: 0.png: must be a whole image file." in refusal(
        plugin("webdataset", **settings).load, tmp_path
    )


# Hugging Face ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_a_data_set_of_hugging_face_is_read_from_disk(kind: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    paths = [picture(tmp_path / "loose" / f"{number}.png") for number in range(5)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})

    def split(files: list[Path], labels: list[int]) -> Any:
        rows = {"image": [{"bytes": path.read_bytes(), "path": None} for path in files], "label": labels}
        return datasets.Dataset.from_dict(rows, features=features)

    parts = {"train": split(paths[:3], [1, 0, 1]), "test": split(paths[3:], [0, 1])}
    if kind == "saved":
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "d")
    else:
        for name, part in parts.items():
            (tmp_path / "d" / "data").mkdir(parents=True, exist_ok=True)
            part.to_parquet(tmp_path / "d" / "data" / f"{name}-00000-of-00001.parquet")
    data = plugin("huggingface", folder="d", side=SIDE)
    images = data.load(tmp_path)
    assert data.facts(tmp_path) == images.facts() and images.class_names == ("cat", "dog")
    assert images.train_labels.tolist() == [1, 0, 1] and images.test_labels.tolist() == [0, 1]
    assert same(images.train_images, paths[:3]) and same(images.test_images, paths[3:])
    assert data.data_files(tmp_path)
    message = refusal(plugin("huggingface", folder="d", label_column="fine").facts, tmp_path)
    assert (
        "must have a column 'fine'. Got the columns 'image', 'label'" in message
        and "Set `label_column: label`." in message
    )


def test_a_folder_without_a_data_set_of_hugging_face_is_told(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    (tmp_path / "d").mkdir()
    rule = "must hold what save_to_disk wrote, or parquet files"
    expected = f"huggingface: {tmp_path}/d {rule}. Got neither. Save the splits together."
    assert refusal(plugin("huggingface", folder="d").facts, tmp_path) == expected
    assert "Got no folder" in refusal(plugin("huggingface", folder="e").facts, tmp_path)
