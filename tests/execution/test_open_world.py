"""Runs on unlabelled images, images of other data sets and the user's own validation part, from records backwards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cl_semisup import plugins
from cl_semisup.evaluation import Features
from cl_semisup.execution import trainer
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.results.records import Record
from cl_semisup.suite import suite
from cl_semisup.training.loop import TrainingSetup

TRAIN, UNLABELLED, TEST, VAL = 48, 10, 20, 16
SUITE = """
question: What do images without a label do?
datasets: {arrays: {file: x.npz}}
encoder: {mlp: {width: 8, layers: 1}}
losses: supcon
validation: all
label_fraction: 0.25
learning_rate: 0.1
batch_size: 8
epochs: 2
repetitions: 1
projector: {layers: 1, dim: 8}
probes: {linear: {}}
"""


@dataclass(frozen=True)
class Trained:
    """A run that is over: its record, what it trained with, and the features that it was evaluated by."""

    record: Record
    setup: TrainingSetup
    features: Features


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Grey images of 8 x 8 pixels, as those of `digits`; those of class 1 are brighter, and no two are equal."""
    folder, random, held = tmp_path_factory.mktemp("data"), np.random.default_rng(7), dict[str, Any]()
    for part, count in (("train", TRAIN), ("test", TEST), ("val", VAL)):
        labels = np.arange(count) % 2
        noise = random.integers(0, 200, (count, 1, 8, 8))
        held |= {
            f"{part}_labels": labels,
            f"{part}_images": (noise + 40 * labels[:, None, None, None]).astype(np.uint8),
        }
    held["unlabelled_images"] = random.integers(0, 256, (UNLABELLED, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "x.npz", **held)
    return folder, held


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = SUITE) -> Trained:
    seen: dict[str, Any] = {}
    train, features = trainer.loop.train, trainer.Trainer.features

    def watched(setup: TrainingSetup, **settings: Any) -> Any:
        seen["setup"] = setup
        return train(setup, **settings)

    def kept(self: trainer.Trainer, *rest: Any) -> Features:
        seen["features"] = features(self, *rest)
        found: Features = seen["features"]
        return found

    monkeypatch.setattr(trainer.loop, "train", watched)
    monkeypatch.setattr(trainer.Trainer, "features", kept)
    run = next(run for run in suite.parse(text, "s.yaml", str(folder)).runs if run.epochs)
    record, _ = Executor(Machine("cpu", str(folder)))(run)
    assert record["status"] in ("ok", "collapsed"), record["reason"]
    return Trained(record, seen["setup"], seen["features"])


def rows(images: Any) -> list[bytes]:
    return [np.asarray(image).tobytes() for image in images]


def test_unlabelled_images_train_without_a_label_and_are_no_class(
    arrays: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, held = arrays
    done = trained(folder, monkeypatch)
    labels = dict(zip(rows(held["train_images"]), held["train_labels"].tolist(), strict=True))
    labels |= dict.fromkeys(rows(held["unlabelled_images"]), -1)
    assert sorted(rows(done.setup.images)) == sorted(labels)
    visible = done.setup.visible_labels.tolist()
    for image, label in zip(rows(done.setup.images), visible, strict=True):
        assert label in (-1, labels[image])  # a label that is seen is the true one; unlabelled images have none
    assert [visible.count(label) for label in (0, 1, -1)] == [6, 6, TRAIN + UNLABELLED - 12]  # a quarter of each class
    resolved = done.record["resolved"]
    assert (resolved["classes"], resolved["labelled_images"]) == (2, 12)
    assert resolved["train_images"] == TRAIN + UNLABELLED and resolved["steps"] == 2 * ((TRAIN + UNLABELLED) // 8)


@pytest.mark.parametrize(
    ("setting", "foreign", "own"),
    [
        ("share: 0.5", 23, 35),  # of 46 images without a label half are replaced
        ("share: 0.01", 0, 58),
        ("share: 1.0", 46, 12),
        ("count: 30", 30, 58),
    ],
)
def test_foreign_images_come_in_the_number_that_is_asked_for_and_have_no_label(
    setting: str, foreign: int, own: int, arrays: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, held = arrays
    done = trained(folder, monkeypatch, SUITE + f"unlabelled_from: {{dataset: digits, {setting}}}\n")
    others = set(rows(plugins.load("datasets", "digits")().load(folder).train_images))
    mine = set(rows(held["train_images"])) | set(rows(held["unlabelled_images"]))
    images, visible = rows(done.setup.images), done.setup.visible_labels.tolist()
    assert [sum(image in pool for image in images) for pool in (mine, others)] == [own, foreign]
    assert all(label == -1 for image, label in zip(images, visible, strict=True) if image in others)
    assert sum(label >= 0 for label in visible) == 12  # no labelled image is replaced
    resolved = done.record["resolved"]
    assert (resolved["foreign_images"], resolved["classes"], resolved["train_images"]) == (foreign, 2, own + foreign)
    assert set(done.features.train_labels.tolist()) <= {-1, 0, 1} and len(done.features.test_labels) == TEST


def test_an_own_validation_part_tunes_and_does_not_train(
    arrays: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`linear_top1_validation` is scikit-learn's accuracy on the user's images, of the probe of all training images."""
    folder, held = arrays
    done = trained(folder, monkeypatch, SUITE.replace("x.npz}", "x.npz, val: validate}"))
    assert not set(rows(done.setup.images)) & set(rows(held["val_images"]))
    assert done.record["resolved"]["validation_images"] == VAL and done.features.val is not None
    known = done.features.train_labels >= 0
    x, y = done.features.train[known].double().numpy(), done.features.train_labels[known].numpy()
    mean, std = x.mean(axis=0), x.std(axis=0)
    strength = done.record["diagnostics"]["linear_strength"]
    fitted = LogisticRegression(C=2 / (strength * len(y)), tol=1e-8, max_iter=10_000).fit((x - mean) / std, y)
    own = (done.features.val.features.double().numpy() - mean) / std
    assert done.record["scores"]["linear_top1_validation"] == fitted.score(own, held["val_labels"])


def test_a_merged_validation_part_trains(arrays: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, held = arrays
    done = trained(folder, monkeypatch, SUITE.replace("x.npz}", "x.npz, val: merge}"))
    assert set(rows(held["val_images"])) <= set(rows(done.setup.images))
    assert done.record["resolved"]["train_images"] == TRAIN + UNLABELLED + VAL and done.features.val is None
    assert "validation_images" not in done.record["resolved"]
    labels = dict(zip(rows(held["val_images"]), held["val_labels"].tolist(), strict=True))
    merged = zip(rows(done.setup.images), done.setup.visible_labels.tolist(), strict=True)
    assert {label in (-1, labels[image]) for image, label in merged if image in labels} == {True}
    assert torch.equal(torch.unique(done.features.train_labels), torch.tensor([-1, 0, 1]))
