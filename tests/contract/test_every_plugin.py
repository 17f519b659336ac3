"""Every plug-in of the package keeps the contract of its kind; losses have a file of their own, with their oracles."""

import importlib
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup import contract, plugins
from cl_semisup.contract import checks, clauses
from tests.helpers.encoders import complete

# Declared here and not in their files, where a declaration would make another version of code that stays the same.
EXEMPT = {
    "calibration": {"test_labels": "a calibration error compares averages over bins of images, and is fitted on none"},
    "kmeans": {
        "test_labels": "clusters have no names: they get those that suit the test labels best, as the field does"
    },
    "retrieval": {"test_labels": "test images of the same label are what a query is to find; nothing is fitted"},
}


def require_whole(results: list[contract.ClauseResult]) -> None:
    broken = [f"{result.clause}: {result.text}" for result in results if result.outcome not in ("ok", "exempt")]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("name", complete())
def test_every_encoder_keeps_its_contract(name: str) -> None:
    require_whole(contract.check("encoders", name))


def test_encoders_that_name_a_model_keep_the_contract() -> None:
    require_whole(contract.check("encoders", "torchvision", {"model": "shufflenet_v2_x0_5", "resize": 32}))
    if util.find_spec("timm"):
        require_whole(contract.check("encoders", "timm", {"model": "test_resnet", "resize": 32}))


@pytest.mark.parametrize("name", plugins.names("optimizers"))
def test_every_optimizer_keeps_its_contract(name: str) -> None:
    require_whole(contract.check("optimizers", name))


@pytest.mark.parametrize("name", plugins.names("evaluation"))
def test_every_probe_keeps_its_contract(name: str) -> None:
    settings: dict[str, Any] = {"datasets": ["digits"]} if name in ("transfer", "shifted_test") else {}
    require_whole(contract.check("evaluation", name, settings, exempt=EXEMPT.get(name, {})))


@pytest.mark.parametrize("name", plugins.names("views"))
def test_every_view_keeps_its_contract(name: str) -> None:
    require_whole(contract.check("views", name))


def _small_data(name: str, folder: Path) -> dict[str, Any]:
    """Files for a data set that reads some, made small; the settings that name them."""
    from PIL import Image

    random = np.random.default_rng(0)
    if name == "features":
        rows = random.standard_normal((10, 4)).astype(np.float32)
        parts = {"train": rows[:6], "train_labels": np.arange(6) % 2, "test": rows[6:], "test_labels": np.arange(4) % 2}
        np.savez(folder / "rows.npz", **parts)
        return {"file": "rows.npz"}
    if name == "image_table":
        lines = ["file,label,split"]
        for number in range(10):
            (folder / "pets").mkdir(exist_ok=True)
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pets" / f"{number}.png")
            lines.append(f"{number}.png,{'cat' if number % 2 else 'dog'},{'train' if number < 6 else 'test'}")
        (folder / "table.csv").write_text("\n".join(lines))
        return {"csv": "table.csv", "folder": "pets", "side": 8, "split_column": "split"}
    if name == "image_folder":
        for part, label, number in ((p, c, n) for p in ("train", "test") for c in ("cat", "dog") for n in range(3)):
            path = folder / "pets" / part / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        return {"folder": "pets", "side": 8}
    np.savez(
        folder / ("mine.npz" if name == "arrays" else f"{name}.npz"),
        train_images=random.integers(0, 256, (6, 4, 4), dtype=np.uint8),
        train_labels=np.arange(6) % 2,
        test_images=random.integers(0, 256, (4, 4, 4), dtype=np.uint8),
        test_labels=np.arange(4) % 2,
    )
    return {"file": "mine.npz"} if name == "arrays" else {}


# Read in layouts of their own, which tests/datasets make and read back; they train nothing or need other packages.
OWN_LAYOUTS = {"birdsnap", "caltech101", "cifar_c", "dtd", "fgvc_aircraft", "flowers102", "food101", "huggingface"}
OWN_LAYOUTS |= {"medmnist", "oxford_pets", "stanford_cars", "sun397", "tiny_imagenet", "voc2007", "webdataset"}


@pytest.mark.parametrize("name", [name for name in plugins.names("datasets") if name not in OWN_LAYOUTS])
def test_every_data_set_keeps_its_contract(name: str, tmp_path: Path) -> None:
    require_whole(contract.check("datasets", name, _small_data(name, tmp_path), data_dir=str(tmp_path)))


def test_an_exemption_that_is_not_needed_or_unknown_is_broken() -> None:
    (result,) = contract.check("optimizers", "sgd", exempt={"no_such": "why"})
    assert (result.clause, result.outcome) == ("exemptions", "broken")
    assert result.text == "declares exemptions from unknown clauses: no_such."
    results = {result.clause: result for result in contract.check("optimizers", "sgd", exempt={"downhill": "slow"})}
    assert results["downhill"].text == "declared as not holding (slow), but it holds. Remove the exemption."


def test_global_generators_are_put_back() -> None:
    import random

    import torch

    before = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    with pytest.raises(checks.Broken, match=r"global generator of random, numpy, torch"), checks.other_randomness(1):
        random.random(), np.random.rand(), torch.rand(1)
    assert before == (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist())  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["encoders", "optimizers", "evaluation", "views", "losses"])
def test_every_plug_in_answers_alike_in_other_processes(kind: str) -> None:
    module = importlib.import_module(f"cl_semisup.contract.{kind}")
    names = complete() if kind == "encoders" else plugins.names(kind)
    for name in names:
        settings = {"datasets": ["digits"]} if name in ("transfer", "shifted_test") else {}
        clauses.other_process(module.Subject(name, settings))
