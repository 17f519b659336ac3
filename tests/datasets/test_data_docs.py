"""Every row of the table of layouts is a suite that can be written, and is read where the files are one's own."""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.plugins import PluginField
from cl_semisup.suite import suite

PAGE = Path(__file__).parents[2] / "docs" / "data_layouts.md"
ROWS = re.findall(r"^\| .* \| (`.*`) \|$", PAGE.read_text("utf-8").split("## Pixels")[0], re.M)
WRITTEN = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row)]


def test_the_table_has_rows() -> None:
    assert len(ROWS) >= 15


@pytest.mark.parametrize("text", WRITTEN)
def test_what_the_table_says_to_write_can_be_written(text: str) -> None:
    node = yaml.safe_load(text)
    problems: list[grid.Problem] = []
    if isinstance(node, dict) and "probes" in node:
        for name, settings in suite._by_their_own_names(node["probes"], problems).items():
            plugin = plugins.load("evaluation", name)
            wanted = {} if settings is True else settings
            assert grid.mapping(wanted, plugin, ("probes", name), problems, grid.defaults(plugin))
    else:
        assert grid.expand(node, Annotated[Any, PluginField("datasets")], ("datasets",), problems)
    assert not problems, [problem.text for problem in problems]


def test_every_data_set_of_ones_own_files_is_in_the_table() -> None:
    files = {"image_folder", "image_table", "arrays", "tiny_imagenet", "medmnist", "huggingface", "webdataset"}
    assert files <= {next(iter(re.findall(r"\w+", text))) for text in WRITTEN}


RANDOM = np.random.default_rng(4)
COUNT = 6  # images of a part, three of each of two classes
PUBLISHED = (
    "cifar100_coarse",
    "food101",
    "sun397",
    "stanford_cars",
    "fgvc_aircraft",
    "dtd",
    "oxford_pets",
    "caltech101",
)
PUBLISHED += ("flowers102", "birdsnap")  # tests/datasets/test_transfer_sets.py and test_layouts.py read them


def pictures(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name)


def folder(root: Path) -> None:
    parts = [f"{part}/n{n % 2}/{n}.png" for part in ("train", "test") for n in range(COUNT)]
    pictures(root / "pets", *parts)
    pictures(root / "imagenet", *parts, "train/n2/9.png")
    (root / "in100.txt").write_text("n0\nn1\n")
    pictures(root / "CUB_200_2011" / "images", *(f"00{n % 2}.bird/{n}.png" for n in range(COUNT)))
    (root / "CUB_200_2011" / "images.txt").write_text("1 001.bird/1.png\n")
    for number in range(COUNT):
        scan, image = (root / top / f"c{number % 2}" / f"{number}.tif" for top in ("scans", "EuroSAT"))
        for path in (scan, image):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 4096, (8, 8)).astype(np.uint16)).save(scan)
        tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed; it is in the extra `tiff`")
        bands = RANDOM.integers(0, 9999, (8, 8, 13)).astype(np.uint16)
        tifffile.imwrite(image, bands, photometric="minisblack", planarconfig="contig")


def table(root: Path) -> None:
    names = [f"{part}{n}" for part in ("test", "train") for n in range(COUNT)]
    pictures(root / "pictures", *(f"{name}.jpg" for name in names))
    rows = [
        f"{name}.jpg,{n % 2},{name[:-1]},{name},c{n % 2},{name.startswith('train')}\n" for n, name in enumerate(names)
    ]
    (root / "t.csv").write_text("file,label,split,id,breed,is_train\n" + "".join(rows))
    (root / "metadata.csv").write_text("file_name,label,split,id,breed,is_train\n" + "".join(rows))
    (root / "labels.txt").write_text("".join(f"{n % 2}\n" for n in range(len(names))))
    for file, part in (("train.txt", "train"), ("val.txt", "test")):
        (root / file).write_text("".join(f"{part}{n}.jpg {n % 2}\n" for n in range(COUNT)))


def tiny(root: Path) -> None:
    root = root / "tiny-imagenet-200"
    pictures(root, *(f"train/n{n % 2}/images/{n}.png" for n in range(COUNT)))
    pictures(root, *(f"val/images/{n}.png" for n in range(COUNT)))
    (root / "val" / "val_annotations.txt").write_text("".join(f"{n}.png\tn{n % 2}\t0\t0\t1\t1\n" for n in range(COUNT)))


def arrays(root: Path) -> None:
    held: dict[str, Any] = {}
    for part in ("train", "test"):
        held |= {f"x_{part}": RANDOM.integers(0, 256, (COUNT, 8, 8, 13), dtype=np.uint8)}
        held |= {f"y_{part}": np.eye(2)[np.arange(COUNT) % 2]}
    np.savez(root / "x.npz", **held)


def medical(root: Path) -> None:
    parts = ("train", "val", "test")
    labels: dict[str, Any] = {f"{part}_labels": np.arange(18) % 9 for part in parts}
    for side, name in ((28, "pathmnist"), (64, "pathmnist_64")):
        images = {f"{part}_images": np.zeros((18, side, side, 3), np.uint8) for part in parts}
        np.savez(root / f"{name}.npz", **images, **labels)


def hugging_face(root: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it is in the extra `hf`")
    pictures(root / "loose", *(f"{n}.png" for n in range(COUNT)))
    images = [{"bytes": (root / "loose" / f"{n}.png").read_bytes(), "path": None} for n in range(COUNT)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": images, "label": [n % 2 for n in range(COUNT)]}, features=features)
    both = datasets.DatasetDict({"train": rows, "test": rows})
    both.save_to_disk(root / "pets")
    both.rename_columns({"image": "img", "label": "fine_label"}).save_to_disk(root / "cifar")


def one_table(root: Path) -> None:
    hugging_face(root)
    (root / "pets").rename(root / "both")
    (root / "both" / "train").rename(root / "pets")


def shards(root: Path) -> None:
    pictures(root, "one.png")
    for part in ("train", "test"):
        with tarfile.open(root / f"{part}-0.tar", "w") as archive:
            for n in range(COUNT):
                members = {"cls": b"%d" % (n % 2), "txt": b"c%d" % (n % 2)}
                members |= dict.fromkeys(("png", "left.png", "right.png"), (root / "one.png").read_bytes())
                for ending, content in (members | {"json": b'{"class": %d}' % (n % 2)}).items():
                    member = tarfile.TarInfo(f"{n}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


BUILT: dict[str, Callable[[Path], None]] = {
    "image_folder": folder,
    "image_table": table,
    "tiny_imagenet": tiny,
    "arrays": arrays,
    "medmnist": medical,
    "huggingface": hugging_face,
    "webdataset": shards,
}


@pytest.mark.parametrize("text", [text for text in WRITTEN if not text.startswith(("probes", *PUBLISHED))])
def test_what_the_table_says_to_write_reads_what_one_has(text: str, tmp_path: Path) -> None:
    node = yaml.safe_load(text)
    name, settings = (node, {}) if isinstance(node, str) else next(iter(node.items()))
    build = one_table if name == "huggingface" and "test_fraction" in settings else BUILT[name]
    build(tmp_path)
    data = plugins.load("datasets", name)(**settings)
    images = data.load(tmp_path)
    assert images.facts() == data.facts(tmp_path) and data.layout(tmp_path).classes == images.class_names
    images = images.of_repetition(0)
    assert len(images.train_labels) >= 4 and len(images.test_labels) >= 2
    assert len(set(images.train_labels.tolist())) == len(images.class_names) >= 2
