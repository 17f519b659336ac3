"""What chooses configs: images that train nothing, visible labels alone, or what it was before there was a choice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cl_semisup import evaluation
from cl_semisup.data import labels
from cl_semisup.data.images import Images
from cl_semisup.data.splits import folds
from cl_semisup.errors import SuiteError
from cl_semisup.evaluation import Features
from cl_semisup.execution import execute
from cl_semisup.execution.data import Data, to_device
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import group
from cl_semisup.results import protocol
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite

MACHINE = Machine("cpu", "data")
Parse = Callable[[str], Suite]


@pytest.fixture
def runs(parse: Parse, text: str) -> dict[str, Run]:
    """A run of SupCon, whose training sees labels, by each setting."""
    suite = text.replace("nt_xent, clop", "supcon") + "validation: [all, held_out, labelled]\n"
    return {run.validated_by: run for run in parse(suite).runs if run.epochs}


def execute_with(data: Data, run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Features]:
    """The record of a run on these data, and the features that were evaluated."""
    found: list[Features] = []
    measure = evaluation.measure

    def watch(features: Features, probes: Any) -> Any:
        found.append(features)
        return measure(features, probes)

    with monkeypatch.context() as patch:
        patch.setattr(execute.evaluation, "measure", watch)
        record, _ = Executor(MACHINE)(run, data)
    assert record["status"] in ("ok", "collapsed"), record["reason"]  # scrambled labels look like a collapse
    return record, found[0]


def weights(features: Features) -> dict[str, torch.Tensor]:
    assert features.network is not None
    return features.network.encoder.state_dict()


def test_a_held_out_image_trains_nothing(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """With all pixels and labels of the held-out part scrambled, weights and test scores are the same to the bit."""
    run, data = runs["held_out"], Executor(MACHINE).data(runs["held_out"])
    drawn = labels.of_run(data.train_labels.numpy(), run.as_dict())
    assert len(drawn.held_out) == 145
    assert not set(drawn.held_out) & set(drawn.indices)
    assert len(drawn.held_out) + len(drawn.indices) == len(data.train_labels)
    held = torch.from_numpy(drawn.held_out)
    images, wrong = data.train_images.clone(), data.train_labels.clone()
    images[held], wrong[held] = 255 - images[held], (wrong[held] + 3) % 10
    monkeypatch.setattr(labels, "of_run", lambda *_: drawn)  # the draw itself is stratified by true labels
    (one, before), (other, after) = (
        execute_with(changed, run, monkeypatch)
        for changed in (data, replace(data, train_images=images, train_labels=wrong))
    )
    assert all(torch.equal(value, weights(after)[name]) for name, value in weights(before).items())
    tested = [name for name in one["scores"] if not name.endswith("_validation")]
    assert {name: one["scores"][name] for name in tested} == {name: other["scores"][name] for name in tested}
    assert one["scores"]["linear_top1_validation"] != other["scores"]["linear_top1_validation"]
    assert one["resolved"]["train_images"] == 1437 - 145
    assert one["resolved"]["validation_images"] == 145


def test_the_held_out_scores_are_those_of_the_probe_on_these_images(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs["held_out"]
    record, features = execute_with(Executor(MACHINE).data(run), run, monkeypatch)
    assert features.val is not None
    for suffix, known in (("", features.train_labels), ("_labelled", features.visible_labels)):
        strength = record["diagnostics"][f"linear_strength{suffix}"]
        rows = known >= 0
        scale = StandardScaler().fit(features.train[rows])
        fitted = LogisticRegression(C=1 / (strength * int(rows.sum())), max_iter=5000, tol=1e-6)
        fitted.fit(scale.transform(features.train[rows]), known[rows])
        score = fitted.score(scale.transform(features.val.features), features.val.labels)
        assert record["scores"][f"linear_top1{suffix}_validation"] == pytest.approx(score, abs=0.015)


def test_a_hidden_label_chooses_nothing(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run, data = runs["labelled"], Executor(MACHINE).data(runs["labelled"])
    drawn = labels.of_run(data.train_labels.numpy(), run.as_dict())
    hidden = np.setdiff1d(np.arange(len(data.train_labels)), drawn.indices[drawn.visible_labels >= 0])
    wrong = data.train_labels.clone()
    wrong[hidden] = (wrong[hidden] + 3) % 10
    monkeypatch.setattr(labels, "of_run", lambda *_: drawn)
    (one, _), (other, _) = (
        execute_with(changed, run, monkeypatch) for changed in (data, replace(data, train_labels=wrong))
    )
    name = "linear_top1_labelled_validation"
    assert 0.5 < one["scores"][name] == other["scores"][name] < 1
    assert one["scores"]["linear_top1_validation"] != other["scores"]["linear_top1_validation"]  # which chooses nothing


def features_of(labels_: list[int], seed: int = 0) -> Features:
    """Features whose visible labels are these, in clusters that overlap."""
    visible, random = torch.tensor(labels_), np.random.default_rng(seed)
    x = torch.from_numpy(np.eye(8)[np.array(labels_) % 8] + 0.8 * random.normal(size=(len(labels_), 8))).float()
    classes = int(visible.max()) + 1
    return Features(x, x, x[:, :2], x[:, :2], visible, visible.clamp(min=0), visible, (x, x), classes, ("d", 0))


def test_visible_labels_are_validated_in_folds() -> None:
    """Against the loop over folds with scikit-learn; a class with one label is in no fold."""
    shown = [0, 1, 2] * 12 + [3] + [-1] * 5
    features = features_of(shown)
    found = evaluation.validate_by_visible_labels(features, {"linear": {}, "knn": {}})
    y, x = np.array(shown), features.train.numpy()
    fold = folds(np.where(y == 3, -1, y), 5, "validation", "d", 0)
    right = 0
    for number in range(5):
        kept, held = (y >= 0) & (fold != number), fold == number
        scale = StandardScaler().fit(x[kept])  # class 3 has one label, so the probe cannot choose its penalty
        fitted = LogisticRegression(C=1 / (0.01 * kept.sum()), max_iter=5000, tol=1e-8)
        fitted.fit(scale.transform(x[kept]), y[kept])
        right += int((fitted.predict(scale.transform(x[held])) == y[held]).sum())
    assert found == {"linear_top1_labelled_validation": pytest.approx(right / 36)}


def test_many_visible_labels_are_validated_on_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []
    linear = evaluation.plugins.load("evaluation", "linear")
    measure = linear.measure
    monkeypatch.setattr(linear, "measure", lambda self, f: fitted.append(len(f.test)) or measure(self, f))
    evaluation.validate_by_visible_labels(features_of([0, 1] * 250), {"linear": {}})
    assert fitted == [100]


def test_one_label_a_class_validates_nothing() -> None:
    assert evaluation.validate_by_visible_labels(features_of([0, 1, 2, -1, -1]), {"linear": {}}) == {}


def test_the_setting_is_part_of_ids_and_fingerprints_and_all_is_what_was_before(runs: dict[str, Run]) -> None:
    assert "validation" not in runs["all"].as_dict()
    assert len({run.id for run in runs.values()}) == 3
    found = {name: protocol.fingerprint(protocol.settings(run, "d", "float32")) for name, run in runs.items()}
    assert len(set(found.values())) == 3
    assert "validation" not in protocol.settings(runs["all"], "d", "float32")


def test_visible_labels_that_choose_share_the_training_of_all(runs: dict[str, Run]) -> None:
    assert sorted(len(one.runs) for one in group(runs.values())) == [1, 2]


def test_a_suite_that_says_nothing_holds_images_out(parse: Parse, text: str) -> None:
    assert {run.validation for run in parse(text).runs} == {"held_out"}
    assert {run.validation for run in parse(text + "validation: all\n").runs} == {None}


def test_the_same_number_of_labels_a_class_is_the_same_labels() -> None:
    true = np.repeat(np.arange(5), 30)
    drawn = [labels.draw(true, "d", 1, per_class=7, hold_out=hold_out) for hold_out in (False, True)]
    shown = [set(one.indices[one.visible_labels >= 0]) for one in drawn]
    assert shown[0] == shown[1]
    assert np.bincount(true[drawn[1].held_out]).tolist() == [3] * 5


def test_a_class_of_one_image_is_not_held_out() -> None:
    drawn = labels.draw(np.array([0, 1, 1, 1, -1]), "d", 0, fraction=1.0, hold_out=True)
    assert len(drawn.held_out) == 1
    assert drawn.held_out[0] in (1, 2, 3)
    assert drawn.visible_labels[drawn.indices == 0] == [0]


def test_images_of_a_validation_part_of_their_own_are_not_held_out_again(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Executor(MACHINE).data(runs["all"])
    images = Images(
        data.train_images.numpy()[:300],
        data.train_labels.numpy()[:300],
        data.test_images.numpy(),
        data.test_labels.numpy(),
        tuple("0123456789"),
        val_images=data.train_images.numpy()[300:400],
        val_labels=data.train_labels.numpy()[300:400],
    )
    own = to_device(images, torch.device("cpu"))
    record, _ = execute_with(own, runs["held_out"], monkeypatch)
    assert record["resolved"]["train_images"] == 300
    assert record["resolved"]["validation_images"] == 100
    record, _ = execute_with(own, runs["labelled"], monkeypatch)
    assert "validation_images" not in record["resolved"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ("batch_size: 1400", "must not exceed the 1292 of 1437 training images that validation keep"),
        ("labels_per_class: 135", "the smallest has 125 training images beside those held out for validation. Got 135"),
        ("validation: own", "s.yaml:10:13: validation: own needs a data set with a validation part. Got digits"),
    ],
)
def test_a_suite_must_leave_room_for_what_is_held_out(parse: Parse, text: str, changed: str, problem: str) -> None:
    key = changed.partition(":")[0]
    kept = [line for line in text.splitlines() if not line.startswith((key, "validation"))]
    kept = [line for line in kept if key != "labels_per_class" or not line.startswith("label_fraction")]
    with pytest.raises(SuiteError) as caught:
        parse("\n".join([*kept, changed]) + "\n")
    assert problem in caught.value.problems[0]
