"""Retrieval, kNN over several k and prototypes, against plain loops."""

import math

import pytest
import torch
from torch import Tensor

from cl_semisup.evaluation import _neighbours, accuracy
from tests.helpers.probes import CLASSES, blobs, make_features, measure


def _loops(x: list[list[float]], y: list[int]) -> dict[str, float]:
    """Precision at 1, R-precision and MAP@R by their definitions, one query at a time."""

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(p * q for p, q in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))

    first, r_precision, map_at_r = [], [], []
    for q in range(len(x)):
        others = sorted((i for i in range(len(x)) if i != q), key=lambda i: -cosine(x[q], x[i]))
        r = sum(y[i] == y[q] for i in others)
        if r == 0:
            continue
        hits = [y[i] == y[q] for i in others[:r]]
        first.append(float(y[others[0]] == y[q]))
        r_precision.append(sum(hits) / r)
        map_at_r.append(sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r)
    return {
        "precision_at_1": sum(first) / len(first),
        "r_precision": sum(r_precision) / len(r_precision),
        "map_at_r": sum(map_at_r) / len(map_at_r),
    }


def test_retrieval_is_what_its_definitions_say() -> None:
    x, y = blobs(43, noise=2.5)
    y[0] = 4 if y[0] != 4 else 3
    y[-1] = CLASSES  # the only one of its class: no query
    features = make_features(test=43, test_labels=y, classes=CLASSES + 1)
    result = measure("retrieval", features, layer="both").scores
    for prefix, rows in (("", features.test), ("projection_", features.test_projections)):
        for name, value in _loops(rows.double().tolist(), y.tolist()).items():
            assert result[f"{prefix}retrieval_{name}"] == pytest.approx(value, abs=1e-9), name
    assert 0.2 < result["retrieval_map_at_r"] < 0.98
    del x


def test_retrieval_agrees_with_pytorch_metric_learning() -> None:
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    inference = pytest.importorskip("pytorch_metric_learning.utils.inference")
    features = make_features(test=60)
    knn = inference.CustomKNN(pytest.importorskip("pytorch_metric_learning.distances").CosineSimilarity())
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = calculators.AccuracyCalculator(include=names, k="max_bin_count", knn_func=knn)
    theirs = calculator.get_accuracy(features.test, features.test_labels)
    ours = measure("retrieval", features).scores
    assert ours["retrieval_precision_at_1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["retrieval_r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["retrieval_map_at_r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def test_nothing_is_retrieved_where_every_image_is_alone_in_its_class() -> None:
    features = make_features(test=CLASSES, test_labels=torch.arange(CLASSES))
    assert measure("retrieval", features).scores == {}


def test_every_point_of_the_knn_curve_is_the_vote_of_its_k_nearest() -> None:
    features = make_features(train=150, train_labels=torch.arange(150) % 7 % CLASSES)
    result = measure("knn_curve", features, temperature=0.2).scores
    bank = features.train, features.train_labels, CLASSES
    for k in (1, 5, 10, 20, 50, 100, 200):
        predictions = _neighbours.predict(features.test, *bank, k=k, temperature=0.2)
        assert result[f"knn_k{k}_top1"] == accuracy(predictions, features.test_labels)
    assert len(set(result.values())) > 1


def _prototype_accuracy(bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor) -> float:
    """By loops over classes and queries."""
    directions = {}
    for label in sorted(set(labels.tolist())):
        mean = sum(row / row.norm() for row in bank[labels == label]) / int((labels == label).sum())
        directions[label] = mean / mean.norm()
    predicted = [max(directions, key=lambda c: float(q @ directions[c])) for q in queries]
    return sum(p == t for p, t in zip(predicted, truth.tolist(), strict=True)) / len(truth)


def test_prototypes_are_the_directions_of_class_means_of_projections() -> None:
    features = make_features()
    result = measure("prototypes", features).scores
    bank, truth = features.train_projections, features.test_labels
    known = features.visible_labels >= 0
    queries = features.test_projections
    assert result["prototype_top1"] == _prototype_accuracy(bank, features.train_labels, queries, truth)
    labelled = _prototype_accuracy(bank[known], features.visible_labels[known], queries, truth)
    assert result["prototype_top1_labelled"] == labelled
