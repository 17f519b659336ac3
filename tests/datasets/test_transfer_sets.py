"""The photographs that SimCLR transfers to, made small in torchvision's layouts and compared with torchvision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cl_semisup import plugins
from cl_semisup.data.multi_label import MultiLabelImages
from cl_semisup.datasets.voc2007 import CLASSES
from cl_semisup.errors import DataError

RANDOM = np.random.default_rng(3)
SIDE = 8


def plugin(kind: str, /, **settings: Any) -> Any:
    return plugins.load("datasets", kind)(**({"side": SIDE} | settings))


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        action(*args)
    return str(caught.value)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path, "JPEG")


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def food101(root: Path) -> None:
    for part, numbers in (("train", (1, 2)), ("test", (3,))):
        names = {dish: [f"{dish}/{number}" for number in numbers] for dish in ("pizza", "apple_pie")}
        text(root / "food-101" / "meta" / f"{part}.json", json.dumps(names))
        for files in names.values():
            for file in files:
                picture(root / "food-101" / "images" / f"{file}.jpg")


def sun397(root: Path) -> None:
    scenes = ("/a/abbey", "/b/bar/indoor")
    text(root / "SUN397" / "ClassName.txt", *scenes)
    for part, numbers in (("Training", (1, 2)), ("Testing", (3,))):
        paths = [f"{scene}/sun_{number}.jpg" for scene in scenes for number in numbers]
        text(root / "SUN397" / f"{part}_01.txt", *paths)
        for path in paths:
            picture(root / "SUN397" / path.lstrip("/"))
    picture(root / "SUN397" / "a" / "abbey" / "sun_4.jpg")  # in no part


def stanford_cars(root: Path) -> None:
    from scipy.io import savemat

    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "Fiat"], dtype=object)})
    for part, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(f"{number}.jpg", number % 2 + 1) for number in range(4 if part == "train" else 2)]
        savemat(base / file, {"annotations": np.array(rows, dtype=[("fname", object), ("class", object)])})
        for name, _ in rows:
            picture(base / f"cars_{part}" / name)


def fgvc_aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    text(data / "variants.txt", "A320", "Boeing 707")
    for part, numbers in (("trainval", (1, 2, 3)), ("test", (4, 5))):
        text(data / f"images_variant_{part}.txt", *(f"{n} {('A320', 'Boeing 707')[n % 2]}" for n in numbers))
        for number in numbers:
            picture(data / "images" / f"{number}.jpg")


def dtd(root: Path) -> None:
    for part, number in (("train", 1), ("val", 2), ("test", 3)):
        names = [f"{kind}/{kind}_{number}.jpg" for kind in ("banded", "dotted")]
        text(root / "dtd" / "dtd" / "labels" / f"{part}1.txt", *names)
        for name in names:
            picture(root / "dtd" / "dtd" / "images" / name)


def oxford_pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    for part, numbers in (("trainval", (1, 2)), ("test", (3,))):
        names = [
            (f"{breed}_{n}", label) for label, breed in enumerate(("Abyssinian", "great_dane"), 1) for n in numbers
        ]
        text(base / "annotations" / f"{part}.txt", *(f"{name} {label} 1 1" for name, label in names))
        for name, _ in names:
            picture(base / "images" / f"{name}.jpg")


def caltech101(root: Path) -> None:
    for name in ("BACKGROUND_Google", "ant", "barrel"):
        for number in range(1, 6):
            picture(root / "caltech101" / "101_ObjectCategories" / name / f"image_{number:04}.jpg")


def flowers102(root: Path) -> None:
    from scipy.io import savemat

    for number in range(1, 8):
        picture(root / "flowers-102" / "jpg" / f"image_{number:05}.jpg")
    savemat(root / "flowers-102" / "imagelabels.mat", {"labels": np.array([1, 2, 1, 2, 1, 2, 1])})
    parts = {"trnid": np.array([5, 2]), "valid": np.array([1, 6]), "tstid": np.array([3, 4, 7])}
    savemat(root / "flowers-102" / "setid.mat", parts)


def voc2007(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2007"
    for part, names in (("trainval", ("000001", "000003", "000004", "000007")), ("test", ("000002", "000006"))):
        text(base / "ImageSets" / "Main" / f"{part}.txt", *names)
        for kind, name in enumerate(CLASSES):
            signs = [("-1", " 1", " 0")[(kind + int(image)) % 3] for image in names]
            lines = [f"{image} {sign}" for image, sign in zip(names, signs, strict=True)]
            text(base / "ImageSets" / "Main" / f"{name}_{part}.txt", *lines)
        for image in names:
            picture(base / "JPEGImages" / f"{image}.jpg")


def birdsnap(root: Path) -> None:
    heading = "url\tmd5\tpath\tspecies_id"
    paths = [f"{species}/{n}.jpg" for species in ("Acadian", "Zonotrichia") for n in range(3)]
    text(root / "birdsnap" / "images.txt", heading, *(f"http://x\t0\t{path}\t1" for path in paths))
    text(root / "birdsnap" / "test_images.txt", "path", paths[2], paths[5])
    for path in paths[1:]:  # the first link is dead
        picture(root / "birdsnap" / "images" / path)


MAKE = {f.__name__: f for f in (food101, sun397, stanford_cars, fgvc_aircraft, dtd, oxford_pets, caltech101, flowers102, voc2007, birdsnap)}  # fmt: skip
KIND: dict[str, tuple[str, list[list[dict[str, Any]]]]] = {  # torchvision's class, and its arguments for train and test
    "food101": ("Food101", [[{"split": "train"}], [{"split": "test"}]]),
    "stanford_cars": ("StanfordCars", [[{"split": "train"}], [{"split": "test"}]]),
    "fgvc_aircraft": ("FGVCAircraft", [[{"split": "trainval"}], [{"split": "test"}]]),
    "dtd": ("DTD", [[{"split": "train"}, {"split": "val"}], [{"split": "test"}]]),
    "oxford_pets": ("OxfordIIITPet", [[{"split": "trainval"}], [{"split": "test"}]]),
    "flowers102": ("Flowers102", [[{"split": "train"}, {"split": "val"}], [{"split": "test"}]]),
}


@pytest.fixture(autouse=True)
def any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.flowers102

    monkeypatch.setattr(torchvision.datasets.flowers102, "check_integrity", lambda path, md5=None: Path(path).is_file())


def pixels(image: Any) -> Any:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("name", KIND)
def test_the_images_and_labels_are_torchvisions(name: str, tmp_path: Path) -> None:
    import torchvision.datasets

    MAKE[name](tmp_path)
    data = plugin(name)
    images = data.load(tmp_path)
    assert data.facts(tmp_path) == images.facts()
    kind, splits = KIND[name]
    for part, arguments in zip(("train", "test"), splits, strict=True):
        sets = [getattr(torchvision.datasets, kind)(tmp_path, **a) for a in arguments]
        rows = [data_set[number] for data_set in sets for number in range(len(data_set))]
        assert getattr(images, f"{part}_labels").tolist() == [label for _, label in rows]
        assert (getattr(images, f"{part}_images") == np.stack([pixels(image) for image, _ in rows])).all()
    assert images.class_names == (tuple(sets[0].classes) if name != "flowers102" else ("0", "1"))
    assert len(data.data_files(tmp_path)) > len(images.train_images) + len(images.test_images)


def test_scenes_are_split_by_the_published_partition(tmp_path: Path) -> None:
    sun397(tmp_path)
    images = plugin("sun397").load(tmp_path)
    assert images.class_names == ("abbey", "bar/indoor")
    assert images.train_labels.tolist() == [0, 0, 1, 1] and images.test_labels.tolist() == [0, 1]
    for number, path in enumerate(("a/abbey/sun_1.jpg", "a/abbey/sun_2.jpg", "b/bar/indoor/sun_1.jpg")):
        assert (images.train_images[number] == pixels(Image.open(tmp_path / "SUN397" / path))).all()
    text(tmp_path / "SUN397" / "Testing_01.txt", "/a/abbey/sun_9.jpg")
    assert "must name images of SUN397. Got 1 that are not there" in refusal(plugin("sun397").load, tmp_path)


def test_objects_of_caltech_are_split_at_random_and_always_alike(tmp_path: Path) -> None:
    caltech101(tmp_path)
    data = plugin("caltech101", per_class=3)
    images = data.load(tmp_path)
    assert images.class_names == ("ant", "barrel") and images.content_hash == data.load(tmp_path).content_hash
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and images.test_labels.tolist() == [0, 0, 1, 1]
    files = sorted((tmp_path / "caltech101").rglob("[ab]*/image_*.jpg"))
    every = {pixels(Image.open(path)).tobytes() for path in files}
    assert {image.tobytes() for image in (*images.train_images, *images.test_images)} == every
    assert "must have more than 5 images, of which that many are for training. Got 5 of 'ant'." in refusal(
        plugin("caltech101", per_class=5).facts, tmp_path
    )


def test_birds_whose_links_are_dead_are_left_out(tmp_path: Path) -> None:
    birdsnap(tmp_path)
    images = plugin("birdsnap").load(tmp_path)
    assert images.class_names == ("Acadian", "Zonotrichia")
    assert images.train_labels.tolist() == [0, 1, 1] and images.test_labels.tolist() == [0, 1]
    first = tmp_path / "birdsnap" / "images" / "Acadian"
    assert (images.train_images[0] == pixels(Image.open(first / "1.jpg"))).all()
    assert (images.test_images[0] == pixels(Image.open(first / "2.jpg"))).all()
    text(tmp_path / "birdsnap" / "images.txt", "url\tfile")
    assert "images.txt:1: must have a column 'path'. Got ['url', 'file']." in refusal(plugin("birdsnap").load, tmp_path)


def test_voc_has_several_labels_an_image_and_no_run_may_train_on_it(tmp_path: Path) -> None:
    voc2007(tmp_path)
    data = plugin("voc2007")
    images = data.load(tmp_path)
    assert isinstance(images, MultiLabelImages)
    expected = [[{0: 0, 1: 1, 2: -1}[(kind + image) % 3] for kind in range(20)] for image in (1, 3, 4, 7)]
    assert images.train_targets.tolist() == expected and images.test_targets.shape == (2, 20)
    second = tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000003.jpg"
    assert (images.train_images[1] == pixels(Image.open(second))).all()
    before = images.content_hash
    assert data.load(tmp_path).content_hash == before
    path = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "cat_test.txt"
    path.write_text(path.read_text().replace("  1", "  0"))
    assert data.load(tmp_path).content_hash != before
    assert data.facts(tmp_path) == images.facts() and images.facts().labelled == 0
    assert data.several_labels
    path.write_text("000002 1\n")
    assert f"{path}: must have the 2 images of test.txt. Got 1 others. Unpack it again." in refusal(data.load, tmp_path)


@pytest.mark.parametrize("name", MAKE)
def test_a_set_that_is_not_there_says_what_was_looked_for_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    data = plugin(name)
    assert data.data_files(tmp_path) == ()
    message = refusal(data.prepare, tmp_path, True)  # nothing is downloaded
    assert message.startswith(f"{name}: must be in {tmp_path}. Got no {tmp_path / data.files[0]}. ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MAKE)
def test_a_set_whose_image_is_broken_names_it(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    broken = sorted(tmp_path.rglob("*.jpg"))[-1]
    broken.write_bytes(b"junk")
    settings = {"per_class": 3} if name == "caltech101" else {}
    assert f"{broken}: must be a whole image file." in refusal(plugin(name, **settings).load, tmp_path)


def test_every_set_of_the_table_has_the_metric_of_the_table() -> None:
    metrics = {
        name: getattr(plugins.load("datasets", name), "metric", "top1") for name in (*MAKE, "cifar10", "cifar100")
    }
    per_class = {"fgvc_aircraft", "oxford_pets", "caltech101", "flowers102"}
    assert {name for name, metric in metrics.items() if metric == "mean_per_class"} == per_class
    assert {name for name, metric in metrics.items() if metric == "map"} == {"voc2007"}
    assert len(metrics) == 12
