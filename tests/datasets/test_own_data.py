"""The user's own folders and arrays: unlabelled images, validation parts, splits and folds, read by PIL and numpy too."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from cl_semisup import plugins
from cl_semisup.data import description, pixel_facts, splits
from cl_semisup.data.images import Images
from cl_semisup.datasets import _decoder, _mapped, _pixels
from cl_semisup.errors import DataError
from cl_semisup.suite import suite

RANDOM = np.random.default_rng(0)
DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def tree(root: Path, *names: str) -> Path:
    """Random images of 8 x 8 pixels."""
    for name in names:
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return root


def several(folder: str, count: int) -> list[str]:
    return [f"{folder}/{number}" for number in range(count)]


def read(paths: list[Path]) -> NDArray[np.uint8]:
    """The independent reader."""
    return np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths])


def folder(**settings: Any) -> Any:
    return plugins.load("datasets", "image_folder")(folder="pets", side=8, **settings)


def arrays(**settings: Any) -> Any:
    return plugins.load("datasets", "arrays")(file="x.npz", **settings)


def save(path: Path, train: int = 20, **more: Any) -> dict[str, NDArray[Any]]:
    parts = {
        "train_images": RANDOM.integers(0, 256, (train, 8, 8, 3), dtype=np.uint8),
        "train_labels": np.arange(train) % 2,
    }
    held = {name: array for name, array in {**parts, **more}.items() if array is not None}
    np.savez(path / "x.npz", **held)
    return held


def refusal(data_set: Any, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        data_set.facts(folder)
    return str(caught.value)


def test_unlabelled_images_of_any_depth_train_and_are_no_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", *several("train/cat", 3), *several("train/dog", 2), "test/cat/0")
    tree(root, "unlabelled/b", "unlabelled/a/deep/1", "unlabelled/a/0")
    images = folder().load(tmp_path)
    paths = [root / "train" / name for name in ("cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png")]
    paths += [root / "unlabelled" / name for name in ("a/0.png", "a/deep/1.png", "b.png")]
    assert (images.train_images == read(paths)).all() and images.train_labels.tolist() == [0, 0, 0, 1, 1, -1, -1, -1]
    assert images.class_names == ("cat", "dog") and images.facts() == folder().facts(tmp_path)
    assert images.facts().labelled == 5


def test_a_link_into_a_folder_above_ends_the_walk(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", "train/cat/0", "test/cat/0", "unlabelled/a/0")
    (root / "unlabelled" / "a" / "loop").symlink_to(root / "unlabelled")
    assert folder().facts(tmp_path).train == 2


def test_unlabelled_arrays_train_and_are_no_class(tmp_path: Path) -> None:
    extra = RANDOM.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    held = save(tmp_path, test_images=extra, test_labels=np.arange(4) % 2, unlabelled_images=extra)
    images = arrays().load(tmp_path)
    assert images.train_labels.tolist() == [*held["train_labels"], -1, -1, -1, -1]
    assert (images.train_images == np.concatenate([held["train_images"].transpose(0, 3, 1, 2), extra])).all()
    assert images.facts() == arrays().facts(tmp_path)


def test_a_test_fraction_is_stratified_and_the_same_every_time(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", *several("cat", 10), *several("dog", 5), "unlabelled/0")
    images = folder(test_fraction=0.2).load(tmp_path)
    assert np.bincount(images.test_labels).tolist() == [2, 1] and images.facts() == folder(test_fraction=0.2).facts(
        tmp_path
    )
    again = folder(test_fraction=0.2).load(tmp_path)
    assert again.content_hash == images.content_hash and again.split == images.split
    paths = [root / name / f"{n}.png" for name, count in (("cat", 10), ("dog", 5)) for n in range(count)]
    whole = {image.tobytes() for image in read([*paths, root / "unlabelled" / "0.png"])}
    parts = [{image.tobytes() for image in part} for part in (images.train_images, images.test_images)]
    assert parts[0] | parts[1] == whole and not parts[0] & parts[1] and len(whole) == 16
    assert images.train_labels[-1] == -1 and isinstance(images.train_images, np.memmap)


def test_a_smaller_test_part_is_in_a_larger_one_and_leaves_an_image_to_train() -> None:
    labels = np.repeat([0, 1, 2, -1], [1, 2, 20, 5])
    small, large = (splits.test_rows(labels, fraction, "x") for fraction in (0.1, 0.9))
    assert not (small & ~large).any() and large.sum() == 0 + 1 + 18 and not large[labels < 0].any()
    with pytest.raises(DataError, match="test_fraction: needs a class with two images"):
        splits.test_rows(np.array([0, 1, -1]), 0.5, "x")


def test_arrays_are_split_as_their_labels_say(tmp_path: Path) -> None:
    held = save(tmp_path, train=30)
    images = arrays(test_fraction=0.3).load(tmp_path)
    rows = splits.test_rows(held["train_labels"], 0.3, "arrays", "x.npz")
    assert (images.test_images == held["train_images"].transpose(0, 3, 1, 2)[rows]).all()
    assert images.test_labels.tolist() == held["train_labels"][rows].tolist()
    assert images.facts() == arrays(test_fraction=0.3).facts(tmp_path)
    assert images.split == splits.fingerprint(rows)


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_every_image_is_tested_in_one_fold_and_repetitions_take_folds_in_turn(kind: str, tmp_path: Path) -> None:
    tree(tmp_path / "pets", *several("cat", 7), *several("dog", 4))
    save(tmp_path, train=11, unlabelled_images=np.zeros((2, 8, 8, 3), np.uint8))
    data_set = folder(folds=3) if kind == "folder" else arrays(folds=3)
    images = data_set.load(tmp_path)
    tested = [images.of_repetition(number) for number in range(3)]
    assert sorted(len(part.test_images) for part in tested) == [3, 4, 4]
    shown = [image.tobytes() for part in tested for image in part.test_images]
    assert len(set(shown)) == len(shown) == 11
    for part in tested:
        assert len(part.train_images) + len(part.test_images) == len(images.train_images)
        assert part.content_hash == images.content_hash and np.bincount(part.test_labels, minlength=2).min() >= 1
    assert (images.of_repetition(4).test_images == tested[1].test_images).all()
    assert images.facts() == tested[0].facts() == data_set.facts(tmp_path)


def test_an_own_validation_part_is_used_as_told_and_else_named(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "pets", *several("train/cat", 3), *several("train/dog", 2), "test/cat/0", *several("val/dog", 2)
    )
    own = read([root / "val" / "dog" / "0.png", root / "val" / "dog" / "1.png"])
    ignored, validated, merged = folder(), folder(val="validate"), folder(val="merge")
    assert ignored.load(tmp_path).val_images is None and ignored.layout(tmp_path).unused == ("val",)
    assert "Set `validation: own`" in ignored.layout(tmp_path).notes[0]
    images = validated.load(tmp_path)
    assert images.val_images is not None and images.val_labels is not None
    assert (images.val_images == own).all() and images.val_labels.tolist() == [1, 1]
    assert validated.layout(tmp_path).validation == "its own val, 2 images"
    assert images.content_hash != ignored.load(tmp_path).content_hash
    assert merged.load(tmp_path).train_labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (merged.load(tmp_path).train_images[-2:] == own).all() and merged.facts(tmp_path).train == 7


def test_own_validation_arrays_are_used_as_told_and_else_named(tmp_path: Path) -> None:
    part = RANDOM.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    more = {
        f"{name}_{kind}": part if kind == "images" else np.arange(4) % 2
        for name in ("test", "val")
        for kind in ("images", "labels")
    }
    save(tmp_path, **more, other=np.zeros(1))
    assert set(arrays().layout(tmp_path).unused) == {"val_images", "val_labels", "other"}
    images = arrays(val="validate").load(tmp_path)
    assert images.val_images is not None and (images.val_images == part.transpose(0, 3, 1, 2)).all()
    merged = arrays(val="merge")
    assert (merged.load(tmp_path).train_images[-4:] == part.transpose(0, 3, 1, 2)).all() and merged.facts(
        tmp_path
    ).train == 24


def test_val_is_the_test_part_where_test_is_flat(tmp_path: Path) -> None:
    tree(tmp_path / "pets", "train/cat/0", "train/dog/0", "test/1", "test/2", "val/dog/0")
    assert folder().load(tmp_path).test_labels.tolist() == [1]
    layout = folder().layout(tmp_path)
    assert layout.test == "val, because test holds no class folder of train" and layout.unused == ("test",)


def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", "train/cat/0", "test/cat/0")
    for name in ("train/Thumbs.db", "train/cat/desktop.ini", "test/cat/Thumbs.db"):
        (root / name).touch()
    (root / "train" / "__MACOSX").mkdir()
    assert folder().load(tmp_path).class_names == ("cat",)


def test_a_class_in_another_unicode_form_is_told_with_escapes(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    tree(tmp_path / "pets", f"train/{one}/0", f"test/{other}/0")
    assert "Got 'cafe\\u0301', where train has 'caf\\xe9'. Rename one: `convmv" in refusal(folder(), tmp_path)


def test_ten_offenders_are_named_with_their_number(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", "train/cat/0", *(f"test/c{n:02}/0" for n in range(12)), "test/cat/0")
    said = refusal(folder(), tmp_path)
    assert "'c08', 'c09', ... (12 in all)" in said and "'c10'" not in said
    tree(root, *(f"train/c{n:02}/deep/0" for n in range(12)))
    assert (
        "Got folders 'c00/deep', " in (said := refusal(folder(), tmp_path))
        and "(12 in all). Set `nested: true`, or move them" in said
    )
    save(tmp_path, train=30, train_labels=np.arange(30) + 100)
    assert "(30 in all). Renumber them with `names, labels = np.unique" in refusal(arrays(test_fraction=0.2), tmp_path)


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "both": ({"folds": 2, "test_fraction": 0.1}, {}, "test_fraction and folds exclude each other. Got both. Keep one."),
    "a test part": (
        {"folds": 2},
        {"test_images": np.zeros((2, 8, 8, 3), np.uint8), "test_labels": np.zeros(2, int)},
        "folds is for data without a test part. Got test_images. Leave folds out, or the array.",
    ),
    "no val": (
        {"test_fraction": 0.2, "val": "merge"},
        {},
        "Got no val_images, val_labels among 'train_images', 'train_labels'. Add them, or leave out `val` and `validation: own`.",
    ),
    "two labels": (
        {"test_fraction": 0.2},
        {"train_labels": np.ones((20, 2))},
        "A run needs one class an image: labels.argmax(axis=1).",
    ),
    "few": ({"folds": 30}, {}, "folds: must leave an image in each fold. Got 30 for 20 images. Lower it."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_break_a_rule_are_refused_with_what_mends_them(case: str, tmp_path: Path) -> None:
    settings, changes, message = REFUSED[case]
    save(tmp_path, **changes)
    assert message in refusal(arrays(**settings), tmp_path)


def test_folders_that_break_a_rule_are_refused_with_what_mends_them(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", *several("cat", 3))
    assert "if the folder holds the classes themselves, set `test_fraction: 0.2`." in refusal(folder(), tmp_path)
    assert "exclude each other" in refusal(folder(folds=2, test_fraction=0.2), tmp_path)
    tree(root, "train/cat/0", "test/cat/0")
    assert "folds: is for data without a test part" in refusal(folder(folds=2), tmp_path)
    assert (
        "val: needs " in (said := refusal(folder(val="merge"), tmp_path))
        and "leave out `val` and `validation: own`" in said
    )


def test_an_interrupted_decoding_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "pets", *several("train/cat", 9), "test/cat/0")
    monkeypatch.setattr(_mapped, "CHUNK", 2)
    decode, seen = _pixels.decode, list[str]()

    def interrupted(source: _pixels.Source, *settings: Any) -> NDArray[np.uint8]:
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(Path(source.name).name)
        return decode(source, *settings)

    monkeypatch.setattr(_decoder, "ThreadPoolExecutor", OneAfterTheOther)
    monkeypatch.setattr(_pixels, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder().prepare(tmp_path, False)
    (partial,) = root.glob(".cl_semisup-*.part")
    partial.write_bytes(partial.read_bytes() + b"half an image")
    seen.clear()
    monkeypatch.setattr(
        _pixels, "decode", lambda source, *s: (seen.append(Path(source.name).name), decode(source, *s))[1]
    )
    images = folder().load(tmp_path)
    assert seen[:5] == ["4.png", "5.png", "6.png", "7.png", "8.png"]
    assert (images.train_images == read([root / "train" / "cat" / f"{n}.png" for n in range(9)])).all()
    assert not list(root.glob(".cl_semisup-*.part"))


def test_a_decoding_that_was_interrupted_after_its_last_image_is_finished(tmp_path: Path) -> None:
    """At a side of 3 grey pixels the seal is as long as some images."""
    root = tree(tmp_path / "pets", *several("train/cat", 9), "test/cat/0")
    tiny = plugins.load("datasets", "image_folder")(folder="pets", side=3, channels=1)
    expected = tiny.load(tmp_path).content_hash
    (kept,) = root.glob(".cl_semisup-*-train.*.npy")
    content = kept.read_bytes()
    kept.rename(kept.with_suffix(".part"))
    assert tiny.load(tmp_path).content_hash == expected
    assert kept.read_bytes() == content


class OneAfterTheOther:
    """Stands for the pool of threads."""

    def __init__(self, threads: int):
        assert threads >= 1

    def shutdown(self, cancel_futures: bool) -> None: ...

    map = staticmethod(map)


def test_an_unfinished_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", "train/cat/0", "test/cat/0")
    folder().prepare(tmp_path, False)
    (kept,) = root.glob(".cl_semisup-*-train-*.npy")
    kept.unlink()
    (tmp_path / "target").write_text("mine")
    kept.with_suffix(".part").symlink_to(tmp_path / "target")
    assert folder().load(tmp_path).train_labels.tolist() == [0] and (tmp_path / "target").read_text() == "mine"


def test_pixel_facts_are_those_of_plain_loops() -> None:
    train = RANDOM.integers(0, 4, (50, 3, 4, 4), dtype=np.uint8)
    test = np.concatenate([train[:7], train[:1], RANDOM.integers(5, 9, (5, 3, 4, 4), dtype=np.uint8)])
    found = pixel_facts.of(train, test)
    assert found.duplicates == sum(any((a == b).all() for b in train) for a in test) == 8
    assert [list(row) for row in found.counts] == [
        [int((train[:, c] == v).sum()) for v in range(256)] for c in range(3)
    ]
    assert found.values == (0, 1, 2, 3)


def describe(images: Images, **layout: Any) -> description.Description:
    layout = {"classes": images.class_names, **layout}
    return description.Description("mine", images.facts(), description.Layout(**layout), images.pixel_facts)


def small(pixels: NDArray[np.uint8], labels: list[int], names: tuple[str, ...]) -> Images:
    return Images(pixels, np.array(labels), pixels[:1] ^ 1, np.array([labels[0]]), names)


def test_a_description_tells_classes_sizes_values_and_duplicates() -> None:
    pixels = RANDOM.integers(0, 100, (4, 1, 4, 4), dtype=np.uint8)
    images = Images(pixels, np.array([0, 0, 1, -1]), pixels[:1], np.array([0]), ("cat", "dog"))
    lines = describe(images, unused=("val",)).lines()
    text = "\n".join(lines)
    assert lines[0] == (
        "mine: 4 training images (3 with a label, 1 without) in 2 classes, 1 test images; 4 x 4 pixels, grey."
    )
    assert "training images of a class: 1 ('dog') to 2 ('cat')." in text and "not used: 'val'." in text
    assert "classes without test images: 'dog'." in text
    assert f"pixels: {pixels.min()} to {pixels.max()}; 1 test images are exact duplicates" in text
    assert "note: 1 of 1 test images are also training images" in text
    assert (
        "1 of them also training images" in describe(images).short()
        and "Notes: 1, see `check`." in describe(images).short()
    )
    assert "pixels: not looked at." in description.Description("x", images.facts(), description.Layout()).lines()[-1]


@pytest.mark.parametrize(
    ("brightest", "labels", "names", "note"),
    [
        (1, [0, 1], ("a", "b"), "all pixels are 0 or 1 of 255"),
        (
            16,
            [0, 1],
            ("a", "b"),
            "the brightest pixel is 16 of 255, as in 16-bit files whose brightest is 4095 (12 bit)",
        ),
        (255, [1, 2], ("0", "1", "2"), "labels seem to start at 1, which makes an empty class 0 and changes chance"),
        (255, [0, 1], ("a", "nan"), "a class is called 'nan': its images count as labelled. Move them to"),
        (255, [0, 0], ("images",), "there is one class alone, 'images', and nothing to tell apart. Name the folder"),
        (
            255,
            [0, 1],
            ("A", "A|B"),
            "classes such as 'A|B' seem to be several labels, and count as classes of their own",
        ),
        (255, [0, 1], ("a", "unlabelled"), "a class is called 'unlabelled': its images count as labelled"),
    ],
)
def test_suspicious_data_have_a_note(brightest: int, labels: list[int], names: tuple[str, ...], note: str) -> None:
    pixels = np.zeros((2, 1, 4, 4), np.uint8)
    pixels[1, 0, 1] = brightest
    notes = describe(small(pixels, labels, names)).notes()
    assert [found for found in notes if found.startswith(note)]


def test_a_phantom_class_is_told_as_empty() -> None:
    lines = describe(small(np.full((2, 1, 4, 4), 9, np.uint8), [1, 2], ("0", "1", "2"))).lines()
    assert "  classes without training images: '0'." in lines


def rows() -> list[tuple[str, str]]:
    """(you have, write) of the page."""
    text = DOCS.read_text("utf-8").split("<!-- rows: folders and arrays -->")[1].split("<!-- end of rows")[0]
    found = re.findall(r"^\| (.+?) \| `([^`]+)` \|$", text, re.MULTILINE)
    return [(have, write) for have, write in found if have != "you have"]


@pytest.mark.parametrize(("have", "write"), rows())
def test_every_row_of_the_page_about_data_works(have: str, write: str, tmp_path: Path, text: str) -> None:
    root = tmp_path / "pets"
    part = {"images": RANDOM.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8), "labels": np.arange(12) % 2}
    if "`pets/<class>" in have:
        tree(root, *several("cat", 12), *several("dog", 12))
    elif "x.npz" not in write:
        tree(
            root,
            *(name for part in ("train", "test", "val") for c in ("cat", "dog") for name in several(f"{part}/{c}", 12)),
        )
        tree(root, *several("unlabelled/deep", 3))
    tested = {f"{name}_{kind}": array for name in ("test", "val") for kind, array in part.items()}
    save(tmp_path, train=24, **({} if "test_fraction" in write or "folds" in write else tested))
    node = yaml.safe_load(write)
    lines = ["datasets: {arrays: {file: x.npz}}"] * ("datasets" not in node) + [yaml.safe_dump(node)]
    small = text.replace("batch_size: 128", "batch_size: 8").replace("datasets: digits\n", "")
    (run, *_) = suite.parse(small + "\n".join(lines) + "\n", "s.yaml", str(tmp_path)).runs
    (name, settings) = next(iter(run.dataset.items()))
    images = plugins.load("datasets", name)(**settings).load(tmp_path).of_repetition(0)
    assert (images.val_images is not None) == ("validation" in node)
    assert len(images.train_images) >= 8 and len(images.test_images)
    assert (run.unlabelled_from is not None) == write.startswith("unlabelled_from")


def test_settings_that_are_left_out_change_no_id(text: str, tmp_path: Path) -> None:
    save(tmp_path, train=200, test_images=np.zeros((2, 8, 8, 3), np.uint8), test_labels=np.zeros(2, int))
    (run, *_) = suite.parse(text.replace("digits", "{arrays: {file: x.npz}}"), "s.yaml", str(tmp_path)).runs
    assert run.dataset == {"arrays": {"file": "x.npz"}} and "unlabelled_from" not in run.as_dict()
    assert os.path.exists(tmp_path / "x.npz")


TOUCH = """
import sys
from pathlib import Path
from cl_semisup import plugins
images = plugins.load("datasets", "image_folder")(folder="pets", side=64).load(Path(sys.argv[1]))
print(int(images.train_images.sum()), flush=True)
sys.stdin.read()
"""


def mapping(process: int, path: str) -> dict[str, int]:
    """What the system says of a mapped file in a process, in kB."""
    rest = Path(f"/proc/{process}/smaps").read_text().partition(path)[2]
    lines = (line.split() for line in rest.splitlines()[1:24])
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3}


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="this system does not tell the share of a page")
def test_two_processes_share_the_pages_of_the_mapped_file(tmp_path: Path) -> None:
    tree(tmp_path / "pets", *several("train/cat", 40), "test/cat/0")
    mapped = plugins.load("datasets", "image_folder")(folder="pets", side=64).load(tmp_path).train_images
    total = int(mapped.sum())
    (kept,) = (tmp_path / "pets").glob(".cl_semisup-*-train-*.npy")
    alone = mapping(os.getpid(), str(kept))
    command = [sys.executable, "-c", TOUCH, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and int(other.stdout.readline()) == total
        both = [mapping(process, str(kept)) for process in (os.getpid(), other.pid)]
        other.communicate("")
    assert alone["Pss"] == alone["Rss"] >= 40 * 3 * 64 * 64 // 1024
    for found in both:
        assert found["Rss"] == alone["Rss"] and found["Private_Clean"] == found["Private_Dirty"] == 0
        assert found["Pss"] == pytest.approx(found["Rss"] / 2, abs=1)


def test_decoding_shows_a_bar_on_a_terminal_and_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pty, termios = (
        pytest.importorskip(name, reason="this system has no pseudo-terminals") for name in ("pty", "termios")
    )
    monkeypatch.setattr(_decoder, "BAR_DELAY_SECONDS", 0.0)
    tree(tmp_path / "pets", *several("train/cat", 40), "test/cat/0")
    folder().prepare(tmp_path, False)
    assert capfd.readouterr().err == ""
    (kept,) = (tmp_path / "pets").glob(".cl_semisup-*-train-*.npy")
    kept.unlink()
    terminal, screen = pty.openpty()
    termios.tcsetwinsize(screen, (24, 100))
    os.set_blocking(terminal, False)
    with os.fdopen(screen, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        folder().prepare(tmp_path, False)
        shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "decoding train once" in shown and "/40 " in shown and "images" in shown


def test_a_fourth_channel_of_transparency_is_told() -> None:
    pixels = RANDOM.integers(0, 256, (4, 4, 8, 8), dtype=np.uint8)
    images = Images(pixels, np.array([0, 1, 0, 1]), pixels[:1] ^ 1, np.array([0]), ("a", "b"))
    told = "the fourth channel is 255 everywhere, as transparency is. Save `x[..., :3]`."
    assert told not in describe(images).notes()
    pixels[:, 3] = 255
    images = Images(pixels, np.array([0, 1, 0, 1]), pixels[:1] ^ 1, np.array([0]), ("a", "b"))
    assert told in describe(images).notes()
