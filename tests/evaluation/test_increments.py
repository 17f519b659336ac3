"""Average accuracy and forgetting of class increments, against numbers by hand, and heads against the library."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestCentroid

from cl_semisup.evaluation import Features, Increment
from tests.helpers.probes import make_features, measure

HEADS = ("nearest_mean", "ridge", "loranpac")


def _forgetful() -> Features:
    """Four classes in two groups, one direction a class. After the second group the first cannot be told apart."""
    labels = torch.arange(4).repeat_interleave(5)
    rows = F.one_hot(labels, 4).float() + 0.01 * torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    forgotten = rows.clone()
    forgotten[labels == 0] = rows[labels == 2].clone()  # class 0 now looks like class 2
    new = torch.nonzero(labels >= 2).squeeze(1)
    old = torch.nonzero(labels < 2).squeeze(1)
    seen = (Increment((0, 1), old, rows[old], rows), Increment((2, 3), new, rows[new], forgotten))
    made = make_features(train=20, test=20)
    return replace(
        made, train=rows, test=forgotten, train_projections=rows, test_projections=forgotten, train_labels=labels,
        test_labels=labels, visible_labels=labels, test_views=(rows, rows), classes=4, increments=seen,
    )  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_scores_are_those_by_hand(head: str) -> None:
    """After group 1 all is right; after group 2 class 0 is taken for class 2: 15 of 20, and half of group 1 is lost."""
    found = measure("increments", _forgetful(), head=head, width=64)
    assert found.scores["increment_last_top1"] == pytest.approx(0.75)
    assert found.scores["increment_average_top1"] == pytest.approx((1 + 0.75) / 2)
    assert found.diagnostics["increment_forgetting"] == pytest.approx(0.5)
    assert found.curves["increment_accuracy"] == [[1.0], [0.5, 1.0]]


def test_forgetting_is_from_the_best_accuracy_that_a_group_ever_had() -> None:
    features = _forgetful()
    first, second = features.increments
    features = replace(
        features,
        increments=(
            first,
            replace_test(second, features.train),
            Increment((), first.rows[:0], first.train[:0], second.test),
        ),
    )
    found = measure("increments", features)
    assert found.curves["increment_accuracy"][:2] == [[1.0], [1.0, 1.0]]
    assert found.diagnostics["increment_forgetting"] == pytest.approx((0.5 + 0.0) / 2)


def replace_test(increment: Increment, test: Any) -> Increment:
    return increment._replace(test=test)


def test_only_visible_labels_are_learnt_from_and_without_any_there_is_no_score() -> None:
    features = _forgetful()
    hidden = torch.where(torch.arange(20) % 5 == 0, features.visible_labels, -1)
    assert measure("increments", replace(features, visible_labels=hidden)).scores["increment_average_top1"] < 1
    assert not measure("increments", replace(features, visible_labels=torch.full((20,), -1))).scores


def test_a_run_on_all_classes_at_once_has_one_increment() -> None:
    features = make_features()
    found = measure("increments", features)
    known = features.visible_labels >= 0
    unit = F.normalize(features.train[known], dim=1)
    library = NearestCentroid().fit(unit.numpy(), features.visible_labels[known].numpy())
    wanted = float((library.predict(F.normalize(features.test, dim=1).numpy()) == features.test_labels.numpy()).mean())
    assert found.scores["increment_last_top1"] == pytest.approx(wanted)
    assert found.scores["increment_average_top1"] == pytest.approx(wanted)
    assert "increment_forgetting" not in found.diagnostics
