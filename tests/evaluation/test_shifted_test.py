"""Further test images: accuracy by plain loops on files as CIFAR-10-C and CIFAR-10.1 have them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup import plugins
from cl_semisup.errors import DataError, InputError, SuiteError
from cl_semisup.evaluation import _linear
from cl_semisup.suite.suite import Suite
from tests.helpers.probes import CLASSES, make_features, measure

RANDOM = np.random.default_rng(4)


def corruptions(root: Path, kinds: tuple[str, ...] = ("fog", "blur"), count: int = 6) -> dict[str, Any]:
    """Five severities of `count` images of each kind; the labels repeat."""
    root.mkdir()
    arrays: dict[str, Any] = {kind: RANDOM.integers(0, 256, (5 * count, 4, 4, 3), dtype=np.uint8) for kind in kinds}
    arrays["labels"] = np.tile(RANDOM.integers(0, CLASSES, count), 5).astype(np.uint8)
    for name, array in arrays.items():
        np.save(root / f"{name}.npy", array)
    return arrays


def cifar_c(**settings: Any) -> Any:
    return plugins.load("datasets", "cifar_c")(**({"classes": CLASSES} | settings))


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        action(*args)
    return str(caught.value)


def test_files_of_corruptions_are_read_as_they_unpack(tmp_path: Path) -> None:
    arrays = corruptions(tmp_path / "CIFAR-10-C")
    data = cifar_c()
    images = data.load(tmp_path)
    assert images.parts == (("blur", 5, 6), ("fog", 5, 6))
    expected = np.concatenate([arrays["blur"], arrays["fog"]]).transpose(0, 3, 1, 2)
    assert (images.test_images == expected).all()
    assert images.test_labels.tolist() == [*arrays["labels"].tolist(), *arrays["labels"].tolist()]
    assert data.facts(tmp_path) == images.facts()
    assert [path.name for path in data.data_files(tmp_path)] == ["labels.npy", "blur.npy", "fog.npy"]


def test_one_file_of_images_with_its_labels_is_read(tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10.1").mkdir()
    shown, labels = RANDOM.integers(0, 256, (7, 4, 4, 3), dtype=np.uint8), np.arange(7) % CLASSES
    np.save(tmp_path / "CIFAR-10.1" / "v6_data.npy", shown)
    np.save(tmp_path / "CIFAR-10.1" / "v6_labels.npy", labels.astype(np.int32))
    np.save(tmp_path / "CIFAR-10.1" / "other.npy", labels)
    images = cifar_c(folder="CIFAR-10.1", labels="v6_labels.npy", images="v6_data.npy").load(tmp_path)
    assert images.parts == (("v6_data", 1, 7),) and images.test_labels.tolist() == labels.tolist()
    assert (images.test_images == shown.transpose(0, 3, 1, 2)).all()


def test_the_score_is_the_mean_over_parts_of_the_mean_over_severities(tmp_path: Path) -> None:
    corruptions(tmp_path / "CIFAR-10-C")
    images = cifar_c().load(tmp_path)
    features = make_features()
    assert features.network is not None
    features = replace(features, network=replace(features.network, dataset=lambda named: images))
    result = measure("shifted_test", features, datasets=["cifar_c"])
    tuned = _linear.tuned(features)
    assert tuned is not None and features.network is not None
    expected = {}
    for number, kind in enumerate(("blur", "fog")):
        each = []
        for severity in range(5):
            rows = [30 * number + 6 * severity + n for n in range(6)]
            guessed = tuned.probe.logits(features.network.features_of(images.test_images[rows])).argmax(dim=1).tolist()
            each.append(sum(g == images.test_labels[row] for g, row in zip(guessed, rows, strict=True)) / 6)
            expected[f"shifted_top1_{kind}_{severity + 1}"] = each[-1]
        expected[f"shifted_top1_{kind}"] = sum(each) / 5
    assert result.diagnostics == pytest.approx(expected)
    mean = (expected["shifted_top1_blur"] + expected["shifted_top1_fog"]) / 2
    assert result.scores == {"linear_top1_shifted": pytest.approx(mean)}


def test_test_images_of_other_classes_are_refused(tmp_path: Path) -> None:
    corruptions(tmp_path / "CIFAR-10-C")
    images = cifar_c(classes=9).load(tmp_path)
    features = make_features()
    features = replace(features, network=replace(features.network, dataset=lambda named: images))  # type: ignore[type-var]
    with pytest.raises(InputError, match="shifted_test: cifar_c must have no more than the run's 5 classes. Got 9."):
        measure("shifted_test", features, datasets=["cifar_c"])


def test_files_that_do_not_fit_their_labels_or_cannot_be_read_are_told(tmp_path: Path) -> None:
    data, root = cifar_c(), tmp_path / "CIFAR-10-C"
    assert data.data_files(tmp_path) == ()
    remedy = "Unpack its archive there."
    assert (
        refusal(data.prepare, tmp_path, False)
        == f"cifar_c: folder: must be in {tmp_path}. Got no folder {root}. {remedy}"
    )
    corruptions(root)
    np.save(root / "fog.npy", np.zeros((31, 4, 4, 3), np.uint8))
    rule = "every file must hold as many images as labels.npy holds labels (30), or five times as many"
    assert refusal(data.facts, tmp_path) == f"cifar_c: {root}: {rule}. Got 'fog.npy (31)'. Name one in `images`."
    np.save(root / "fog.npy", np.zeros((30, 4, 4)))
    assert "must be uint8 (M, side, side, 3). Got float64 (30, 4, 4)." in refusal(data.load, tmp_path)
    np.save(root / "fog.npy", np.array([{}] * 30))
    assert "must be an .npy file that can be read. Got ValueError" in refusal(data.load, tmp_path)
    (root / "fog.npy").write_bytes(b"junk")
    assert "must be an .npy file that can be read. Got ValueError" in refusal(data.facts, tmp_path)


@pytest.mark.parametrize("name", ["cifar_c", "voc2007"])
def test_no_run_trains_on_what_is_for_probes_alone(parse: Callable[[str], Suite], text: str, name: str) -> None:
    with pytest.raises(SuiteError, match=f"{name}: its? .*Got it as the data set of runs. Name it in a probe alone."):
        parse(text.replace("datasets: digits", f"datasets: {name}"))
