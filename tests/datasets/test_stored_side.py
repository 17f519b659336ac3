"""Training views cropped from images that are stored at a larger side, against torchvision and plain slices."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional

from cl_semisup import native, plugins
from cl_semisup.data.images import Images
from cl_semisup.data.labels import Subset
from cl_semisup.data.settings import Views
from cl_semisup.data.views import Draw, ViewMaker
from cl_semisup.errors import DataError, InputError
from cl_semisup.execution import open_world
from cl_semisup.execution.data import subset, to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.native import views
from cl_semisup.suite import suite
from cl_semisup.suite.run import Run
from cl_semisup.views.crop_and_color import CropAndColor
from cl_semisup.views.multi_crop import MultiCrop
from tests.helpers.kernels import needs_kernels

RANDOM = np.random.default_rng(5)
MEAN, STD = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 0.2])
FULL = Views(crop_area=0.08, crop_ratio=2.0, flip=0.5, rotation=10, brightness=0.4, hue=0.1, blur=0.5, noise=0.05)


def stored(count: int = 40, channels: int = 3, side: int = 23) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, side, side), generator=torch.Generator().manual_seed(side)).to(
        torch.uint8
    )


@pytest.mark.parametrize("side", [8, 15, 22])
def test_crops_of_larger_images_are_torchvisions(side: int) -> None:
    """The box of each image is found from its random numbers in a plain loop, as torchvision's RandomResizedCrop."""
    x, numbers = stored(), torch.rand(40, 40, generator=torch.Generator().manual_seed(2))
    found = views.random_resized_crop(x.float() / 255, 0.05, 2.0, numbers, side=side)
    for n in range(40):
        u = numbers.view(4, 10, 40)[:, :, n]
        for k in range(10):
            area, ratio = float((0.05 + 0.95 * u[0, k]) * 23 * 23), float(2.0 ** (2 * u[1, k] - 1))
            wide, high = max(1, round((area * ratio) ** 0.5)), max(1, round((area / ratio) ** 0.5))
            if wide <= 23 and high <= 23:
                break
        else:
            wide = high = 23
        left, top = int(u[2, 0] * (23 - wide + 1)), int(u[3, 0] * (23 - high + 1))
        wanted = functional.resized_crop(x[n].float() / 255, top, left, high, wide, [side, side], antialias=True)
        torch.testing.assert_close(found[n], wanted, rtol=1e-4, atol=1e-5)


def test_without_a_crop_the_whole_of_a_larger_image_is_resized() -> None:
    x = stored()
    found = ViewMaker(Views(), torch.zeros(3), torch.ones(3), side=9)(x, 1)
    wanted = functional.resize(x.float() / 255, [9, 9], antialias=True)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize(("channels", "source", "side"), [(3, 23, 8), (1, 32, 31), (3, 48, 5), (3, 16, 12)])
@pytest.mark.parametrize("recipe", [Views(), Views(crop_area=0.08), Views(shift=0.2), FULL])
def test_kernels_make_the_views_of_torch(recipe: Views, channels: int, source: int, side: int) -> None:
    x = stored(30, channels, source)
    make = ViewMaker(recipe, MEAN[:channels], STD[:channels], side=side)
    for seed in range(3):
        with native.used(False):
            wanted = make(x, seed)
        with native.used():
            found = make(x, seed)
        assert found.shape == (30, channels, side, side)
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)


def test_multi_crop_takes_its_crops_from_larger_images() -> None:
    x, small = stored(), stored(side=9)
    make = ViewMaker([MultiCrop(), CropAndColor(flip=0.5)], torch.zeros(3), torch.ones(3), side=9)
    index = torch.arange(40)
    found = make(x, 3, 0, index, small)
    assert found.shape == (40, 3, 9, 9)
    first = ViewMaker([MultiCrop()], torch.zeros(3), torch.ones(3), side=9)(x, 3, 0, index, small)
    random = torch.Generator().manual_seed(views_seed(3))
    numbers = Draw(random, index, small, 0).uniform(40, 40)
    wanted = views.random_resized_crop(x.float() / 255, 0.25, 4 / 3, numbers, 1.0, 9)
    torch.testing.assert_close(first, wanted)
    flipped = torch.isclose(found, first).flatten(1).all(1) ^ torch.isclose(found, first.flip(-1)).flatten(1).all(1)
    assert bool(flipped.all())


def views_seed(seed: int) -> int:
    from cl_semisup.seeds import seed as named

    return named("view", seed, 0)


# data ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images of 30 x 20 pixels for training, 4 for testing, and 3 without a label."""
    folder = tmp_path_factory.mktemp("data")
    names = [f"train/{label}/{n}" for label in ("cat", "dog") for n in range(6)]
    names += [f"test/{label}/{n}" for label in ("cat", "dog") for n in range(2)] + ["unlabelled/0"]
    for name in names:
        path = folder / "pets" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    return folder


def resized(path: Path, side: int) -> NDArray[np.uint8]:
    square = Image.open(path).resize((side, side), Image.Resampling.BILINEAR, box=(5, 0, 25, 20))
    return np.asarray(square).transpose(2, 0, 1)


def load(kind: str, data_dir: Path, /, **settings: Any) -> Images:
    images: Images = plugins.load("datasets", kind)(**settings).load(data_dir)
    return images


def test_training_images_are_stored_at_both_sides_and_others_at_the_smaller_one(pets: Path) -> None:
    images = load("image_folder", pets, folder="pets", side=8, stored_side=16)
    paths = [*sorted((pets / "pets" / "train").rglob("*.png")), pets / "pets" / "unlabelled" / "0.png"]
    assert isinstance(images.larger_images, np.memmap) and isinstance(images.train_images, np.memmap)
    assert (images.train_images == np.stack([resized(path, 8) for path in paths])).all()
    assert (images.larger_images == np.stack([resized(path, 16) for path in paths])).all()
    plain = load("image_folder", pets, folder="pets", side=8)
    assert (images.test_images == plain.test_images).all() and plain.larger_images is None
    assert images.facts() == plain.facts() and images.content_hash != plain.content_hash


def test_folds_subsets_and_foreign_images_take_the_larger_images_along(pets: Path) -> None:
    folds = load("image_folder", pets, folder="pets/train", side=8, stored_side=16, folds=3)
    assert folds.larger_images is not None and folds.fold is not None
    part = folds.of_repetition(1)
    assert part.larger_images is not None and (part.larger_images == folds.larger_images[folds.fold != 1]).all()
    data = to_device(part, torch.device("cpu"))
    few = subset(data, np.array([1, 3]))
    assert few.larger_images is not None and (few.larger_images.numpy() == part.larger_images[[1, 3]]).all()
    added = open_world.appended(few, load("digits", pets), np.array([0, 7]))
    assert added.train_images.shape == (4, 3, 8, 8) and added.larger_images is not None
    assert added.larger_images.shape == (4, 3, 16, 16) and (added.larger_images[:2] == few.larger_images).all()
    own = open_world.appended(few, part, np.array([2]))  # the other's larger images are taken where it has some
    assert own.larger_images is not None and (own.larger_images[2].numpy() == part.larger_images[2]).all()


def test_a_table_and_shards_store_the_same_as_a_folder(pets: Path) -> None:
    rows = [("train", f"train/{label}/{n}.png", label) for label in ("cat", "dog") for n in range(6)]
    rows += [("test", f"test/{label}/{n}.png", label) for label in ("cat", "dog") for n in range(2)]
    (pets / "t.csv").write_text("file,label,split\n" + "".join(f"{f},{label},{part}\n" for part, f, label in rows))
    for part in ("train", "test"):
        with tarfile.open(pets / f"{part}.tar", "w") as shard:
            for n, (_, file, label) in enumerate(row for row in rows if row[0] == part):
                for ending, content in (("png", (pets / "pets" / file).read_bytes()), ("cls", label.encode())):
                    member = tarfile.TarInfo(f"{n}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    sides = {"side": 8, "stored_side": 16}
    wanted = load("image_folder", pets, folder="pets", **sides).larger_images
    table = load("image_table", pets, csv="t.csv", folder="pets", **sides).larger_images
    shards = load("webdataset", pets, train="train.tar", test="test.tar", **sides).larger_images
    assert wanted is not None and table is not None and shards is not None
    assert (table == wanted[:12]).all() and (shards == wanted[:12]).all()


def test_a_larger_side_that_is_not_larger_is_refused() -> None:
    with pytest.raises(InputError, match="stored_side: must exceed side. Got 8 for a side of 8. Raise it, or leave it"):
        plugins.load("datasets", "image_folder")(folder="pets", side=8, stored_side=8)
    pixels, labels = np.zeros((2, 3, 8, 8), np.uint8), np.zeros(2, np.int64)
    with pytest.raises(DataError, match=r"larger images must be uint8 \(2, 3, S, S\) with S above 8. Got uint8 \(2, 3"):
        Images(pixels, labels, pixels, labels, ("a",), larger_images=pixels)


# runs ------------------------------------------------------------------------------------------------------------------

SUITE = """
question: Do crops come from the larger images?
datasets: {image_folder: {folder: pets, side: 8, stored_side: 16}}
encoder: {mlp: {width: 8, layers: 1}}
losses: nt_xent
learning_rate: 0.1
batch_size: 4
epochs: 2
repetitions: 1
projector: {layers: 1, dim: 8}
probes: {knn: {}}
"""


def run_of(text: str, folder: Path) -> Run:
    return next(run for run in suite.parse(text, "s.yaml", str(folder)).runs if run.epochs)


def test_a_run_trains_on_crops_of_larger_images_in_kernels_and_in_plain_mode(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, without = run_of(SUITE, pets), run_of(SUITE.replace(", stored_side: 16", ""), pets)
    assert run.dataset["image_folder"]["stored_side"] == 16 and "stored_side" not in without.dataset["image_folder"]
    taken: list[tuple[int, int]] = []
    make = ViewMaker.__call__

    def watched(self: ViewMaker, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        made = make(self, images, *rest)
        taken.append((images.shape[-1], made.shape[-1]))
        return made

    monkeypatch.setattr(ViewMaker, "__call__", watched)
    fast, curves = Executor(Machine("cpu", str(pets)))(run)
    assert fast["status"] in ("ok", "collapsed"), fast["reason"]
    steps = fast["resolved"]["steps"]
    assert taken[: 2 * steps] == [(16, 8)] * (2 * steps)  # two views a step; test images have the smaller side alone
    assert set(taken[2 * steps :]) <= {(8, 8)}
    plain, reference = Executor(Machine("cpu", str(pets), plain=True))(run)
    np.testing.assert_allclose(curves["history"]["loss"], reference["history"]["loss"], rtol=2e-3)
    other, others = Executor(Machine("cpu", str(pets)))(without)
    assert others["history"]["loss"] != curves["history"]["loss"]
    assert other["protocol"]["fingerprint"] != fast["protocol"]["fingerprint"]
    in_memory = to_device(load("image_folder", pets, folder="pets", side=8, stored_side=16), torch.device("cpu"))
    assert in_memory.larger_images is not None
    copied = {"larger_images": in_memory.larger_images.clone(), "train_images": in_memory.train_images.clone()}
    again, same = Executor(Machine("cpu", str(pets)))(run, replace(in_memory, **copied))
    assert same["history"]["loss"] == curves["history"]["loss"] and again["scores"] == fast["scores"]
    assert plain["protocol"]["settings"]["plain"]


def test_unlabelled_images_keep_their_rows_beside_larger_images(pets: Path) -> None:
    data = to_device(load("image_folder", pets, folder="pets", side=8, stored_side=16), torch.device("cpu"))
    kept = Subset(np.array([0, 12]), np.array([0, -1]), 13)
    few = subset(data, kept.indices)
    assert few.larger_images is not None and data.larger_images is not None
    assert torch.equal(few.larger_images[1], data.larger_images[12]) and few.train_labels.tolist() == [0, -1]
