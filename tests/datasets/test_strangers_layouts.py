"""Folders, tables and arrays as they come from elsewhere: other names, doubled folders, moved files, other forms.

What is read is compared with PIL and numpy alone, pixel by pixel and label by label; what is refused, with the line that
mends it.
"""

import io
import subprocess
import tarfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cl_semisup import plugins
from cl_semisup.datasets import _pixels
from cl_semisup.errors import DataError

RANDOM = np.random.default_rng(3)
SIDE = 8


def plugin(kind: str, /, **settings: Any) -> Any:
    side = {"side": SIDE} if kind not in ("arrays", "medmnist") else {}
    return plugins.load("datasets", kind)(**{**side, **settings})


def noise(*shape: int, high: int = 256, dtype: Any = np.uint8) -> NDArray[Any]:
    return RANDOM.integers(0, high, shape).astype(dtype)


def pictures(root: Path, *names: str) -> list[Path]:
    """Random images in colour, `.png` unless the name has an ending."""
    paths = [root / (name if Path(name).suffix else f"{name}.png") for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(SIDE, SIDE, 3)).save(path)
    return paths


def cats_and_dogs(part: str, count: int = 2) -> list[str]:
    return [f"{part}/{name}/{number}" for name in ("cat", "dog") for number in range(count)]


def read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """The independent reader."""
    return np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths])


def refusal(data_set: Any, folder: Path, action: str = "facts") -> str:
    with pytest.raises(DataError) as caught:
        getattr(data_set, action)(folder)
    return str(caught.value).replace(str(folder), ".")


def expect(data_set: Any, folder: Path, train: Sequence[Path], labels: list[int], test: Sequence[Path]) -> Any:
    """Reads as told; returns the images."""
    images = data_set.load(folder)
    assert images.facts() == data_set.facts(folder)
    assert (images.train_images == read(train)).all() and images.train_labels.tolist() == labels
    assert (images.test_images == read(test)).all()
    return images


# names of parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("TRAIN", "Test"), ("training", "valid"), ("train", "dev")]
)
def test_parts_have_the_names_that_people_give_them(train: str, test: str, tmp_path: Path) -> None:
    own = pictures(tmp_path / "brain", *cats_and_dogs(train))
    tested = pictures(tmp_path / "brain", f"{test}/dog/0")
    images = expect(plugin("image_folder", folder="brain"), tmp_path, own, [0, 0, 1, 1], tested)
    assert images.test_labels.tolist() == [1] and images.class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["valid", "Validation", "dev"])
def test_a_validation_part_of_another_name_is_told_and_used(name: str, tmp_path: Path) -> None:
    pictures(tmp_path / "pets", *cats_and_dogs("train"), *cats_and_dogs("test", 1))
    own = pictures(tmp_path / "pets", f"{name}/dog/0", f"{name}/dog/1")
    layout = plugin("image_folder", folder="pets").layout(tmp_path)
    assert layout.unused == (name,) and layout.notes[0].startswith(f"{name} is not used. Set `validation: own`")
    images = plugin("image_folder", folder="pets", val="validate").load(tmp_path)
    assert (images.val_images == read(own)).all() and images.val_labels.tolist() == [1, 1]


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled"])
def test_unlabelled_images_are_spelled_either_way_and_may_be_a_link(name: str, tmp_path: Path) -> None:
    own = pictures(tmp_path / "pets", *cats_and_dogs("train"))
    tested = pictures(tmp_path / "pets", "test/cat/0")
    more = pictures(tmp_path / "elsewhere", "a/b/1", "a/2")
    (tmp_path / "pets" / name).symlink_to(tmp_path / "elsewhere")
    data = plugin("image_folder", folder="pets")
    order = [more[1], more[0]]  # a/2.png, a/b/1.png
    expect(data, tmp_path, [*own, *order], [0, 0, 1, 1, -1, -1], tested)
    (tmp_path / "pets" / name).unlink()
    (tmp_path / "pets" / name).mkdir()
    assert f"{name} holds no file." in data.layout(tmp_path).notes


def test_a_part_that_is_a_link_out_of_data_dir_is_told(tmp_path: Path) -> None:
    own = pictures(tmp_path / "out", *cats_and_dogs("train"))
    tested = pictures(tmp_path / "data" / "pets", "test/cat/0")
    (tmp_path / "data" / "pets" / "train").symlink_to(tmp_path / "out" / "train")
    data = plugin("image_folder", folder="pets")
    expect(data, tmp_path / "data", own, [0, 0, 1, 1], tested)
    assert f"train is a link out of data_dir, to '{tmp_path}/out/train'." in data.layout(tmp_path / "data").notes


def test_a_class_may_be_called_train_where_the_folder_holds_the_classes(tmp_path: Path) -> None:
    own = pictures(tmp_path / "v", *(f"{name}/{n}" for name in ("bus", "test", "train") for n in range(3)))
    images = plugin("image_folder", folder="v", folds=3).load(tmp_path)
    assert images.class_names == ("bus", "test", "train") and (images.train_images == read(own)).all()


REFUSED_FOLDERS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "two names of a part": (
        ["train/cat/0", "test/cat/0", "Testing/cat/0"],
        {},
        "./pets must hold one folder for test. Got 'Testing' and 'test'. Rename one, for instance `mv test not_used`.",
    ),
    "unpacked into itself": (
        ["pets/train/cat/0", "pets/test/cat/0"],
        {},
        "Got no folder train. Write `folder: pets/pets`, which holds one.",
    ),
    "doubled parts": (
        ["seg_train/seg_train/sea/0", "seg_test/seg_test/sea/0"],
        {},
        "Rename what is for training, for instance `mv seg_train/seg_train train`, and the test part likewise.",
    ),
    "parts with a number": (["train.X1/cat/0", "val.X/cat/0"], {}, "for instance `mv train.X1 train`"),
    "no class folder": (
        ["train/cat.0.jpg", "train/cat.1.jpg", "test/1.jpg"],
        {},
        "./pets/train must hold a folder for each class. Got 2 files and no folder, such as 'cat.0.jpg'. Make a folder "
        "of each class, for instance `mkdir cat && mv cat* cat/`, or name their classes in a table",
    ),
    "flat validation part": (
        ["train/cat/0", "val/ILSVRC2012_val_00000001.JPEG"],
        {},
        "./pets/val must hold a folder for each class. Got 1 files and no folder",
    ),
    "capital letters": (
        ["train/cat/0", "train/dog/0", "test/Cat/0", "test/Dog/0"],
        {},
        "Got 'Cat', 'Dog'. Train has 'cat', 'dog': rename them. Or: remove them, or add them to ./pets/train.",
    ),
    "validation asked where it is the test part": (
        ["train/cat/0", "validation/cat/0"],
        {"val": "validate"},
        "Got 'validate', and the test part is validation, as there is no test. Set `test_fraction: 0.2`",
    ),
    "flat beside a table": (
        ["train/n1/0", "val/x1.JPEG", "solution.csv"],
        {},
        "for instance `cd val; tail -n +2 ../solution.csv | while IFS=', ' read f c _; do mkdir -p \"$c\" && ",
    ),
    "lists beside one folder of classes": (
        ["images/001.A/0", "images/002.B/0", "images.txt", "classes.txt"],
        {"test_fraction": 0.5},
        "Got files, such as 'classes.txt', beside one folder. Write `folder: pets/images`, which holds folders.",
    ),
    "one folder of class folders": (
        ["images/a/0", "images/b/0"],
        {"test_fraction": 0.5},
        "Got folders 'images/a', 'images/b'. Write `folder: pets/images`, if these are the classes; else set `nested: ",
    ),
    "files beside classes": (
        ["train/cat/0", "test/cat/0", *(f"train/x{n:02}.png" for n in range(12))],
        {},
        "'x09.png', ... (12 in all). Move them out of train; mend links to no folder.",
    ),
}


@pytest.mark.parametrize("case", REFUSED_FOLDERS)
def test_folders_that_are_laid_out_otherwise_are_refused_with_the_line_that_mends_them(
    case: str, tmp_path: Path
) -> None:
    names, settings, message = REFUSED_FOLDERS[case]
    pictures(tmp_path / "pets", *(name for name in names if not name.endswith((".txt", ".csv"))))
    for name in names:
        if name.endswith((".txt", ".csv")):
            (tmp_path / "pets" / name).touch()
    assert message in refusal(plugin("image_folder", folder="pets", **settings), tmp_path)


def test_what_systems_leave_is_passed_over_in_every_folder(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    own, tested = pictures(root, *cats_and_dogs("train")), pictures(root, "test/dog/0")
    for name in ("train/._cat", "train/cat/._0.png", "train/dog/Thumbs.db", "train/Icon\r", "test/ehthumbs.db"):
        (root / name).write_bytes(b"x")
    for name in ("train/@eaDir", "train/cat/@eaDir", "__MACOSX", "test/__MACOSX", ".ipynb_checkpoints", "lost+found"):
        (root / name).mkdir()
    expect(plugin("image_folder", folder="pets"), tmp_path, own, [0, 0, 1, 1], tested)
    assert plugin("image_folder", folder="pets").layout(tmp_path).unused == ()


# lists of classes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "n1 n2\n"),
        ("c.txt", "n1, tench\nn2, goldfish, fish\n"),
        ("c.json", '{"n1": "tench", "n2": "goldfish"}'),
        ("c.json", '["n1",\n "n2"]'),
    ],
)
def test_lists_of_classes_come_in_several_forms(name: str, content: str, tmp_path: Path) -> None:
    pictures(tmp_path / "in", *(f"{part}/n{n}/0" for part in ("train", "val") for n in range(4)))
    (tmp_path / name).write_text(content)
    images = plugin("image_folder", folder="in", classes=name).load(tmp_path)
    assert images.class_names == ("n1", "n2") and images.train_labels.tolist() == images.test_labels.tolist() == [0, 1]


def test_a_list_of_classes_in_broken_json_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "in", *cats_and_dogs("train"), *cats_and_dogs("val"))
    (tmp_path / "c.json").write_text('{"cat": ')
    message = refusal(plugin("image_folder", folder="in", classes="c.json"), tmp_path)
    assert "./c.json: must be a list of classes, or have them as keys. Got " in message and "Mend it." in message


@pytest.mark.parametrize("inner", ["", "/images"])
def test_tiny_imagenet_is_read_where_a_script_moved_its_validation_images(inner: str, tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    own = pictures(root, *(f"train/n{n}/images/{k}" for n in (1, 2) for k in range(2)))
    tested = pictures(root, *(f"val/n{n}{inner}/{n}" for n in (1, 2)))
    pictures(root, "test/images/0")
    (root / "val" / "n1" / "n1_boxes.txt").write_text("x")
    data = plugin("tiny_imagenet")
    images = expect(data, tmp_path, own, [0, 0, 1, 1], tested)
    assert images.test_labels.tolist() == [0, 1] and data.layout(tmp_path).unused == ("test",)
    assert len(data.data_files(tmp_path)) == 6


def test_a_tiny_imagenet_unpacked_into_itself_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "tiny-imagenet-200" / "tiny-imagenet-200", "train/n1/images/0")
    expected = "holds tiny-imagenet-200 again. Set `folder: tiny-imagenet-200/tiny-imagenet-200`."
    assert expected in refusal(plugin("tiny_imagenet"), tmp_path)


# tables ---------------------------------------------------------------------------------------------------------------


def table(root: Path, content: str | bytes, name: str = "t.csv", **settings: Any) -> Any:
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return plugin("image_table", **{"csv": name, "folder": "i", "folds": 2, **settings})


ROWS = "".join(f"{n}.png;{n % 2}\n" for n in range(4))
TABLES: dict[str, tuple[str, str | bytes]] = {
    "UTF-16 with the line of Excel": ("t.csv", ("sep=;\r\nfile;label\r\n" + ROWS).encode("utf-16")),
    "whole floats": ("t.csv", "file,label\n" + "".join(f"{n}.png,{n % 2}.0\n" for n in range(4))),
    "labels alone": ("t.txt", "0\n1\n0\n1\n"),
    "names with a quote and a byte order mark": ("t.csv", b"\xef\xbb\xbf" + b'"file","label"\n' + b"".join(
        f'"{n}.png","{n % 2}"\n'.encode() for n in range(4))),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_tables_come_in_several_forms(case: str, tmp_path: Path) -> None:
    name, content = TABLES[case]
    own = pictures(tmp_path / "i", *map(str, range(4)))
    images = table(tmp_path, content, name).load(tmp_path)
    assert (images.train_images == read(own)).all() and images.train_labels.tolist() == [0, 1, 0, 1]
    assert images.class_names == ("0", "1")


def test_paths_of_windows_are_read(tmp_path: Path) -> None:
    own = pictures(tmp_path / "i", *cats_and_dogs("x"))
    rows = "".join(f"x\\{path.parent.name}\\{path.name},{path.parent.name}\n" for path in own)
    images = table(tmp_path, "file,label\n" + rows).load(tmp_path)
    assert (images.train_images == read(own)).all() and images.train_labels.tolist() == [0, 0, 1, 1]


def test_folds_of_a_table_are_those_of_its_labels(tmp_path: Path) -> None:
    own = pictures(tmp_path / "i", *map(str, range(9)))
    data = table(tmp_path, "file,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(9)), folds=3)
    images = data.load(tmp_path)
    shown = np.concatenate([images.of_repetition(number).test_images for number in range(3)])
    assert sorted(image.tobytes() for image in shown) == sorted(image.tobytes() for image in read(own))
    assert data.facts(tmp_path) == images.facts() and "3 folds" in data.layout(tmp_path).test


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("is_train", ("True", "False")),
        ("is_training_image", ("1", "0")),
        ("test", ("0", "1")),
        ("Train", ("yes", "no")),
    ],
)
def test_a_column_of_yes_and_no_tells_the_part_by_its_name(column: str, words: tuple[str, str], tmp_path: Path) -> None:
    own = pictures(tmp_path / "i", *map(str, range(4)))
    rows = "".join(f"{n}.png,{n % 2},{words[n > 1]}\n" for n in range(4))
    images = table(tmp_path, f"file,label,{column}\n" + rows, split_column=column, folds=None).load(tmp_path)
    assert (images.train_images == read(own[:2])).all() and (images.test_images == read(own[2:])).all()


def test_a_file_that_is_named_twice_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "i", *map(str, range(4)))
    content = "file,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in (0, 1, 2, 3, 0, 1)) + "1.png,0\n"
    notes = table(tmp_path, content).layout(tmp_path).notes
    told = "3 rows name a file again, 1 of them with another label, such as '1.png' in lines 3 and 8. Remove them, "
    assert len(notes) == 1 and notes[0].startswith(told)


REFUSED_TABLES: dict[str, tuple[str, str]] = {
    "no heading": ("0.png,0\n1.png,1\n", "Got the columns '0.png', '0'. Give it a heading: `sed -i '1i file,label'`."),
    "one-hot": (
        "file,MEL,NV,BCC,AK\n0.png,1.0,0.0,0.0,0.0\n1.png,0,1,0,0\n2.png,0,0,1,0\n3.png,0,0,0,1\n",
        "Make one of them: `table['label'] = table[['MEL', 'NV', 'BCC']].idxmax(axis=1)`, of all 4.",
    ),
    "absolute": (
        "file,label\n/home/me/0.png,0\n/home/me/1.png,1\n",
        "relative to ./i, without '..'. Got 2 others, such as '/home/me/0.png' in line 2. Cut off what comes before, for "
        "instance with `sed -i 's#/home/me/##'`.",
    ),
    "CUB's list": ("1 a/0.png\n2 a/1.png\n", "<(cut -d' ' -f2 image_class_labels.txt) > labels.txt` makes lines"),
    "label first": ("cat 0.png\ndog 1.png\n", "The label stands first: `awk '{print $2, $1}'` makes lines"),
    "no label": ("a/0.png\nb/1.png\n", "classes: `awk -F/ '{print $0, $(NF-1)}' t.txt > labels.txt`."),
    "commas without a heading": ("0.png,0\n1.png,1\n", "Got '0.png,0'. Give it a heading and another ending: `sed '1i "),
    "other letters": ("file,label\n0.PNG,0\n1.PNG,1\n", "There is '0.png', in other letters: rename it, or mend"),
    "a column that is called otherwise": ("file_name,label\n0.png,0\n", "Set `file_column: file_name`."),
    "pixels": (
        "label," + ",".join(f"p{n}" for n in range(99)) + "\n" + "1," * 99 + "1\n",
        "A table of pixels is for the data set `arrays`: Make one: `t = pd.read_csv(\"t.csv\")",
    ),
    "without an ending": ("file,label\n0,0\n1,1\n", "line 2: must name a file in ./i. Got '0': there is none. Set `suffix: .png`."),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_TABLES)
def test_tables_of_another_form_are_refused_with_the_line_that_mends_them(case: str, tmp_path: Path) -> None:
    pictures(tmp_path / "i", *map(str, range(4)))
    lines = case in ("CUB's list", "label first", "no label", "commas without a heading")
    name = "t.txt" if lines else "t.csv"
    assert REFUSED_TABLES[case][1] in refusal(table(tmp_path, REFUSED_TABLES[case][0], name), tmp_path)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("t.xlsx", '`pd.read_excel("t.xlsx").to_csv("t.csv", index=False)`'),
        ("metadata.jsonl", '`pd.read_json("metadata.jsonl", lines=True).to_csv("metadata.csv", index=False)`'),
        ("cars_annos.mat", 'scipy.io.loadmat("cars_annos.mat", squeeze_me=True); pd.DataFrame({"file": m["files"], '),
        ("t.parquet", '`pd.read_parquet("t.parquet").to_csv("t.csv", index=False)`'),
        ("coco.json", '`pd.read_json("coco.json").to_csv("coco.csv", index=False)`, with a row for each image'),
    ],
)
def test_tables_in_files_of_another_kind_say_how_to_make_a_csv(name: str, line: str, tmp_path: Path) -> None:
    message = refusal(table(tmp_path, "x", name), tmp_path)
    assert f"./{name}: must be a CSV, a TSV, or lines of text. Got neither. Make one: " in message and line in message


def test_files_that_are_no_images_say_what_they_are(tmp_path: Path) -> None:
    pictures(tmp_path, *cats_and_dogs("d", 3))
    for name, content in (("a.heic", b"ftypheic"), ("b.png", b""), ("c.csv", b"x"), ("d.tif", b"x")):
        (tmp_path / "d" / "cat" / name).write_bytes(content)
    lines = refusal(plugin("image_folder", folder="d", test_fraction=0.3), tmp_path, "load").splitlines()
    told = {line.partition(":")[0].rpartition("/")[2]: line for line in lines}
    assert told["a.heic"].endswith("Convert it, for instance `magick a.heic a.png`.")
    assert told["b.png"].endswith("must be a whole image file. Got an empty file. Fetch it again, or remove it.")
    assert told["c.csv"].endswith("Move such files out, for instance `find . -name '*.csv' -exec mv -t ~ {} +`.")
    assert told["d.tif"].endswith(
        "Set `channels` to the number of its bands, if there are many; else mend or remove it."
    )


def test_one_file_damaged_in_the_middle_of_a_folder_is_named(tmp_path: Path) -> None:
    own = pictures(tmp_path / "d", *(f"{name}/{n}.jpg" for name in ("a", "b") for n in range(20)))
    own[13].write_bytes(own[13].read_bytes()[:300])
    message = refusal(plugin("image_folder", folder="d", test_fraction=0.3), tmp_path, "load")
    assert message.startswith("./d/a/13.jpg: must be a whole image file. Got ") and len(message.splitlines()) == 1


def test_a_split_column_of_other_words_says_how_to_rename_them(tmp_path: Path) -> None:
    pictures(tmp_path / "i", "0")
    message = refusal(table(tmp_path, "file,label,split\n0.png,0,A\n", folds=None), tmp_path)
    assert "Rename them: `table['split'] = table['split'].replace({'A': 'train'})`." in message


def test_labels_alone_must_be_as_many_as_files(tmp_path: Path) -> None:
    pictures(tmp_path / "i", *map(str, range(4)))
    message = "there must be one for each file of ./i. Got 3 labels and 4 files. Name the files too"
    assert message in refusal(table(tmp_path, "0\n1\n0\n", "t.txt"), tmp_path)
    assert "Got no folder ./gone." in refusal(table(tmp_path, "0.png 1\n", "t.txt", folder="gone"), tmp_path)


def test_names_in_another_unicode_form_are_told_with_escapes(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    pictures(tmp_path / "i", f"{other}0", f"{other}1")
    message = refusal(table(tmp_path, f"file,label\n{one}0.png,0\n{one}1.png,1\n"), tmp_path)
    assert "There is 'cafe\\u03010.png' and not 'caf\\xe90.png': run `convmv" in message
    pictures(tmp_path / "i", "0", "1")
    rows = f"file,label,split\n0.png,{one},train\n1.png,{other},test\n"
    message = refusal(table(tmp_path, rows, folds=None), tmp_path)
    assert "Got 'cafe\\u0301', where train has 'caf\\xe9'. Write both in one Unicode normal form" in message


@pytest.mark.parametrize("val", [None, "validate", "merge"])
def test_tables_tell_where_validation_comes_from(val: str | None, tmp_path: Path) -> None:
    pictures(tmp_path / "i", *map(str, range(6)))
    rows = "".join(f"{n}.png,{n % 2},{('train', 'valid', 'test')[n // 2]}\n" for n in range(6))
    layout = table(tmp_path, "file,label,split\n" + rows, folds=None, val=val).layout(tmp_path)
    assert layout.classes == ("0", "1") and layout.unused == (("val",) if val is None else ())
    assert (layout.validation == "its own val, 2 images") == (val == "validate")
    assert bool(layout.notes) == (val != "validate")


# arrays ---------------------------------------------------------------------------------------------------------------

NAMES: dict[str, tuple[str, str]] = {
    "capital letters": ("X_train", "Y_train"),
    "parts first": ("train_x", "train_y"),
    "images and labels": ("images", "labels"),
    "scikit-learn": ("data", "target"),
    "one letter": ("x", "y"),
}


@pytest.mark.parametrize("case", NAMES)
def test_arrays_by_other_names_are_read(case: str, tmp_path: Path) -> None:
    x, y = noise(6, SIDE, SIDE, 3), np.arange(6) % 2
    more = noise(2, SIDE, SIDE, 3)
    held = dict(zip(NAMES[case], (x, y), strict=True))
    np.savez(tmp_path / "x.npz", **held, x_unlabeled=more, other=y, class_names=["cat", "dog"])  # type: ignore[arg-type]
    data = plugin("arrays", file="x.npz", folds=2)
    images = data.load(tmp_path)
    assert (images.train_images == np.concatenate([x, more]).transpose(0, 3, 1, 2)).all()
    assert images.train_labels.tolist() == [*y, -1, -1] and images.class_names == ("cat", "dog")
    assert data.layout(tmp_path).unused == ("other",) and data.facts(tmp_path) == images.facts()


REFUSED_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "a row of labels": (
        {"x": noise(4, 8, 8), "y": np.zeros((1, 4))},
        "train_labels: must be (M,) or (M, 1). Got (1, 4). Save `labels.ravel()`.",
    ),
    "text as objects": (
        {"x": noise(4, 8, 8), "y": np.array(["a", "b"] * 2, dtype=object)},
        "Got dtype object. Save numbers or strings. Text is saved by `y.astype(str)`.",
    ),
    "another size": (
        {"x": noise(4, 8, 8), "y": [0, 1, 0, 1], "unlabelled_images": noise(4, 9, 9)},
        "unlabelled_images must be as large as train_images, (1, 8, 8). Got (1, 9, 9). Resize them.",
    ),
    "normalised": (
        {"x": np.linspace(-1, 1, 256).reshape(4, 8, 8), "y": [0, 1, 0, 1], "white": 1},
        "finite ones. Got float64 from -1 to 1. Shift them, for instance `x - x.min()`.",
    ),
    "rows of pixels": ({"x": noise(4, 3072), "y": [0, 1, 0, 1]}, "Tell their sides: `x.reshape(-1, 3, 32, 32)`."),
    "oblong": ({"x": noise(4, 8, 9, 3), "y": [0, 1, 0, 1]}, "Make them square: `x[:, :8, :8]`, or resize them."),
    "oblong, channels first": ({"x": noise(4, 3, 9, 8), "y": [0, 1, 0, 1]}, "`x[:, :, :8, :8]`, or resize"),
    "volumes": ({"x": noise(4, 8, 8, 8, 1), "y": [0, 1, 0, 1]}, "take a slice of each, `x[:, x.shape[1] // 2]`."),
    "images last": ({"x": noise(8, 8, 3, 4), "y": [0, 1, 0, 1]}, "Images come first: `x.transpose(3, 0, 1, 2)`."),
    "too few labels": ({"x": noise(4, 8, 8), "y": [0, 1, 0]}, "Got (3,) labels, 4 images. Leave out the images"),
    "labels below -1": (
        {"x": noise(4, 8, 8), "y": [0, -2, 0, 1]},
        "or be -1 for none. Got -2. `np.maximum(labels, -1)` takes all of them for none.",
    ),
    "not a number": (
        {"x": np.full((4, 8, 8), np.nan), "y": [0, 1, 0, 1], "white": 1},
        "Mend them, for instance `np.nan_to_num(x)`.",
    ),
}


@pytest.mark.parametrize("case", REFUSED_ARRAYS)
def test_arrays_of_another_form_are_refused_with_the_line_that_mends_them(case: str, tmp_path: Path) -> None:
    arrays, message = REFUSED_ARRAYS[case]
    settings = {"white": arrays["white"]} if "white" in arrays else {}
    np.savez(tmp_path / "x.npz", **{name: value for name, value in arrays.items() if name != "white"})
    assert message in refusal(plugin("arrays", file="x.npz", folds=2, **settings), tmp_path, "load")


def test_arrays_without_names_and_single_arrays_say_how_to_save_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", noise(4, 8, 8), np.zeros(4))
    message = refusal(plugin("arrays", file="x.npz"), tmp_path)
    assert "among 'arr_0', 'arr_1'. Give them names: `np.savez(file, train_images=x, train_labels=y)`." in message
    np.save(tmp_path / "x_train.npy", noise(4, 8, 8))
    for name in ("x_train.npy", "."):
        message = refusal(plugin("arrays", file=name), tmp_path)
        assert 'Make one: `np.savez("x.npz", train_images=np.load("x_train.npy")' in message


OTHER_FILES = {
    "x.h5": 'Make one: `f = h5py.File("x.h5"); x, y = f["x"][:], f["y"][:].ravel(); np.savez("x.npz", train_images=x, ',
    "train_32x32.mat": 'x, y = m["X"].transpose(3, 0, 1, 2), m["y"].ravel() % 10; np.savez("x.npz", train_images=x, ',
    "x.pt": 'torch.load("x.pt", weights_only=True)',
    "x.pkl": 'Make one, if the file is your own: `x, y = pickle.load(open("x.pkl", "rb"));',
    "x.parquet": "Write `huggingface: {folder: ...}`, which reads parquet files.",
    "x.tar.gz": "class folders are unpacked by `tar xf x.tar.gz`.",
    "x.zip": "Unpack it, `unzip x.zip`, and name its folder in `image_folder`.",
    "train_X.bin": "Write `stl10` or `cifar10`, which read the published files.",
    "data_batch_1": "Write `cifar10` or `cifar100`, which read the published files.",
    "train.csv": 't = pd.read_csv("train.csv"); y = t.pop("label"); x = t.to_numpy("uint8").reshape(-1, 28, 28);',
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_arrays_in_files_of_another_kind_say_how_to_make_an_npz(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    message = refusal(plugin("arrays", file=name), tmp_path)
    assert message.startswith(f"arrays: file: must be an .npz. Got ./{name}. ") and OTHER_FILES[name] in message


def test_the_lines_that_make_an_npz_make_one_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas
    import scipy.io
    import torch

    x, y = noise(4, 28, 28), np.array([1, 0, 1, 2])
    scipy.io.savemat(tmp_path / "s.mat", {"X": np.stack([x] * 3, -1).transpose(1, 2, 3, 0), "y": y[:, None] + 10})
    torch.save((torch.from_numpy(x), torch.from_numpy(y)), tmp_path / "t.pt")
    pandas.DataFrame(x.reshape(4, -1)).assign(label=y).to_csv(tmp_path / "u.csv", index=False)
    monkeypatch.chdir(tmp_path)
    for name in ("s.mat", "t.pt", "u.csv"):
        line = refusal(plugin("arrays", file=name), tmp_path).partition("Make one: `")[2].partition("`")[0]
        exec(line, {"np": np, "pd": pandas, "scipy": scipy, "torch": torch})
        images = plugin("arrays", file="x.npz", folds=2).load(tmp_path)
        assert (images.train_images[:, 0] == x).all() and images.train_labels.tolist() == y.tolist()


# Hugging Face and WebDataset ------------------------------------------------------------------------------------------


def hugging_face(paths: Sequence[Path], labels: Sequence[Any]) -> Any:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    kind = "string" if isinstance(labels[0], str) else "int64"
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value(kind)})
    rows = {"image": [{"bytes": path.read_bytes(), "path": None} for path in paths], "label": list(labels)}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize("name", ["default/{}/0000", "mnist-{}", "data/{}-00000-of-00001", "{}"])
def test_parquet_files_are_named_by_their_split_somewhere(name: str, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "loose", *map(str, range(6)))
    for part, chosen in (("train", paths[:4]), ("validation", paths[4:])):
        target = tmp_path / "d" / f"{name.format(part)}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        hugging_face(chosen, ["cat", "dog"] * (len(chosen) // 2)).to_parquet(target)
    (tmp_path / "d" / "._train.parquet").write_bytes(b"x")
    data = plugin("huggingface", folder="d")
    images = expect(data, tmp_path, paths[:4], [0, 1, 0, 1], paths[4:])
    assert images.class_names == ("cat", "dog") and data.layout(tmp_path).test == "val, as there is no test"
    assert len(data.data_files(tmp_path)) == 2


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_one_table_of_hugging_face_gives_a_share_for_testing(kind: str, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "loose", *map(str, range(8)))
    rows = hugging_face(paths, [n % 2 for n in range(8)])
    if kind == "saved":
        rows.save_to_disk(tmp_path / "d")
    else:
        (tmp_path / "d").mkdir()
        rows.to_parquet(tmp_path / "d" / "part-0.parquet")
    data = plugin("huggingface", folder="d", test_fraction=0.25)
    images = data.load(tmp_path)
    assert data.facts(tmp_path) == images.facts() and images.split
    shown = [*images.train_images, *images.test_images]
    assert sorted(image.tobytes() for image in shown) == sorted(image.tobytes() for image in read(paths))
    assert np.bincount(images.train_labels).tolist() == [3, 3]
    assert "or set `test_fraction: 0.2`." in refusal(plugin("huggingface", folder="d"), tmp_path)
    both = refusal(plugin("huggingface", folder="d", test_fraction=0.2, folds=2), tmp_path)
    assert "test_fraction and folds exclude each other." in both


def test_a_test_split_without_labels_is_told(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "loose", *map(str, range(4)))
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    parts = {"train": hugging_face(paths, [0, 1, 0, 1]), "test": hugging_face(paths[:2], [-1, -1])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "d")
    message = refusal(plugin("huggingface", folder="d"), tmp_path)
    assert "every test image must have a label. Got 2 of 2 without. Save it without that split" in message
    message = refusal(plugin("huggingface", folder="d", test_fraction=0.2), tmp_path)
    assert "test_fraction is for data without a test part. Got one of 2 images. Leave test_fraction out." in message


def test_shards_of_one_part_are_split_and_images_may_have_two_endings(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "loose", *map(str, range(8)))
    with tarfile.open(tmp_path / "s-0.tar", "w") as archive:
        for number, path in enumerate(paths):
            for ending, content in (("input.png", path.read_bytes()), ("cls", b"%d" % (number % 2))):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    (tmp_path / "._s-0.tar").write_bytes(b"x")
    data = plugin("webdataset", train="*.tar", folds=4)
    images = data.load(tmp_path)
    assert (images.train_images == read(paths)).all() and data.facts(tmp_path) == images.facts()
    assert "4 folds" in data.layout(tmp_path).test and [path.name for path in data.data_files(tmp_path)] == ["s-0.tar"]
    message = "one of test, test_fraction and folds must be set. Got none. Set one."
    assert message in refusal(plugin("webdataset", train="*.tar"), tmp_path)


def test_medmnist_tells_its_validation_part(tmp_path: Path) -> None:
    parts = {f"{part}_images": noise(2, 28, 28) for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.array([[0], [1]]) for part in ("train", "val", "test")}
    np.savez(tmp_path / "breastmnist.npz", **parts, **labels)
    layouts = [plugin("medmnist", name="BreastMNIST", val=val).layout(tmp_path) for val in (None, "validate", "merge")]
    assert [layout.unused for layout in layouts] == [("val",), (), ()]
    assert layouts[1].validation == "its own val, 2 images" and "val is merged: 2 of its images" in layouts[2].notes[0]


# sizes without decoding -----------------------------------------------------------------------------------------------


def with_table(folder: Path) -> Any:
    pictures(folder / "i", *map(str, range(4)))
    return table(folder, "file,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n")


def with_folder(folder: Path) -> Any:
    pictures(folder / "pets", *cats_and_dogs("train"), *cats_and_dogs("test"), "unlabelled/0")
    return plugin("image_folder", folder="pets")


def with_tiny(folder: Path) -> Any:
    pictures(folder / "tiny-imagenet-200", *(f"train/n{n}/images/0" for n in (1, 2)), "val/n1/0", "val/n2/0")
    return plugin("tiny_imagenet")


def with_hugging_face(folder: Path) -> Any:
    hugging_face(pictures(folder / "loose", "0", "1"), [0, 1]).save_to_disk(folder / "d")
    return plugin("huggingface", folder="d", folds=2)


@pytest.mark.parametrize("make", [with_table, with_folder, with_tiny, with_hugging_face])
def test_sizes_and_layouts_are_told_without_decoding(
    make: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("an image is decoded")

    monkeypatch.setattr(_pixels, "decode", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    assert data.facts(tmp_path).classes == len(data.layout(tmp_path).classes) == 2 and data.data_files(tmp_path)


@pytest.mark.parametrize(("delimiter", "end"), [("|", "\n"), ("\t", "\n"), (",", "\r"), (";", "\r\n")])
def test_tables_of_other_programs_are_read(tmp_path: Path, delimiter: str, end: str) -> None:
    paths = pictures(tmp_path / "pics", "a b", "c", "é")
    rows = [
        ["file", "label", "split"],
        ["a b.png", "cat", "train"],
        ["c.png", "dog", "train"],
        ["é.png", "cat", "test"],
    ]
    (tmp_path / "t.csv").write_bytes(end.join(delimiter.join(row) for row in rows).encode())
    expect(plugin("image_table", csv="t.csv", folder="pics"), tmp_path, paths[:2], [0, 1], paths[2:])


@pytest.mark.parametrize("slash", ["/", "\\"])
def test_paths_that_begin_with_the_folders_own_name_are_told(tmp_path: Path, slash: str) -> None:
    pictures(tmp_path / "pics", "a", "b")
    (tmp_path / "t.csv").write_text(f"file,label,split\npics{slash}a.png,x,train\npics{slash}b.png,x,test\n")
    said = refusal(plugin("image_table", csv="t.csv", folder="pics"), tmp_path)
    assert "They begin with the folder's own name: `sed -i 's#pics[/\\\\]##'` cuts it off." in said


def test_lines_with_commas_and_spaces_in_names_are_told(tmp_path: Path) -> None:
    pictures(tmp_path / "pics", "a b")
    (tmp_path / "t.txt").write_text("a b.png,cat\n")
    said = refusal(plugin("image_table", csv="t.txt", folder="pics", test_fraction=0.5), tmp_path)
    assert "Got 'a b.png,cat'. Give it a heading and another ending: `sed '1i file,label' t.txt > t.csv`." in said


def test_classes_that_hold_the_parts_are_told(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", *(f"{name}/{part}/0" for name in ("cat", "dog") for part in ("train", "test")))
    said = refusal(plugin("image_folder", folder="pets"), tmp_path)
    line = said.partition("put the parts first: `")[2].partition("`.")[0]
    subprocess.run(line, shell=True, check=True, cwd=tmp_path)
    paths = [tmp_path / "sorted" / part / name / "0.png" for part in ("train", "test") for name in ("cat", "dog")]
    expect(plugin("image_folder", folder="sorted"), tmp_path, paths[:2], [0, 1], paths[2:])


def test_a_white_for_colours_of_16_bits_is_refused(tmp_path: Path) -> None:
    """PIL keeps their upper 8 bits, so 4095 would be 15 of 4095, which is black."""
    tifffile = pytest.importorskip("tifffile", reason="pip install 'cl-semisup[tiff]'")
    for part in ("train", "test"):
        (folder := tmp_path / "scans" / part / "a").mkdir(parents=True)
        tifffile.imwrite(folder / "0.tif", np.full((9, 9, 3), 30_000, np.uint16), photometric="rgb")
    images = plugin("image_folder", folder="scans").load(tmp_path)
    assert set(np.unique(images.train_images)) <= {116, 117}
    said = refusal(plugin("image_folder", folder="scans", white=4095), tmp_path, "load")
    assert "white is for grey of 16 bits and for 8 bits. Got colours of 16 bits, of which PIL reads 8. Leave" in said


def test_a_shard_that_is_cut_off_is_refused_and_class_folders_in_one_are_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("cat/0.png", "dog/0.png"):
            (path,) = pictures(tmp_path, name)
            archive.add(path, name)
    shards = plugin("webdataset", train="s.tar", test_fraction=0.5)
    assert "Class folders are for `image_folder`: `tar xf` unpacks them." in refusal(shards, tmp_path)
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(
        whole[: whole.index(b"dog/0.png") // 512 * 512 + 100]
    )  # tarfile takes this for the end
    assert "the end of the file at byte" in refusal(shards, tmp_path)
