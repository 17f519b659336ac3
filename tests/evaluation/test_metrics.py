"""Metrics of the probes against independent implementations, on random labels and where there is little to measure."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from torch import Tensor

from cl_semisup.evaluation import class_accuracy
from cl_semisup.evaluation._several_labels import average_precision
from cl_semisup.evaluation.calibration import calibration_error
from cl_semisup.evaluation.kmeans import KMeans, matched_accuracy
from cl_semisup.evaluation.retrieval import retrieve
from tests.helpers.probes import make_features, measure

SEEDS = range(12)


def _labels(seed: int, count: int = 30) -> tuple[np.random.Generator, int, np.ndarray]:
    """Random labels of up to six classes, of which some may have no image; one class alone for seed 0."""
    random = np.random.default_rng(seed)
    classes = 1 if seed == 0 else int(random.integers(2, 7))
    return random, classes, random.integers(0, max(1, classes - seed % 2), count)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_accuracy_of_a_class_is_its_recall(seed: int) -> None:
    random, classes, truth = _labels(seed)
    predictions = random.integers(0, classes, len(truth))
    found = class_accuracy(torch.from_numpy(predictions), torch.from_numpy(truth), classes)
    present = np.unique(truth)
    expected = recall_score(truth, predictions, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(found[present].numpy(), expected)
    assert torch.isnan(found).sum() == classes - len(present)
    assert float(found.nanmean()) == pytest.approx(recall_score(truth, predictions, labels=present, average="macro"))


@pytest.mark.parametrize("seed", SEEDS)
def test_matched_accuracy_is_the_best_of_all_matchings(seed: int) -> None:
    random, classes, truth = _labels(seed)
    clusters = random.integers(0, min(classes, 4), len(truth))
    names = range(max(clusters.max(), truth.max()) + 1)
    best = max(np.mean([order[c] == t for c, t in zip(clusters, truth, strict=True)]) for order in permutations(names))
    assert matched_accuracy(clusters, truth) == pytest.approx(best)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_adjusted_rand_index_counts_pairs(classes: int) -> None:
    truth = torch.arange(40) % classes
    features = make_features(test=40, test_labels=truth, classes=classes)
    found = measure("kmeans", features)
    unit = torch.nn.functional.normalize(features.test, dim=1).numpy()
    clusters = KMeans()._clusters(unit, classes, features.seed_key)
    same = [(clusters[i] == clusters[j], bool(truth[i] == truth[j])) for i, j in combinations(range(40), 2)]
    both, ours, theirs = (
        sum(pair) for pair in ((a and b for a, b in same), (a for a, _ in same), (b for _, b in same))
    )
    expected = ours * theirs / len(same)
    most = (ours + theirs) / 2
    index = 1.0 if most == expected else (both - expected) / (most - expected)
    assert found.diagnostics["kmeans_ari"] == pytest.approx(index)


@pytest.mark.parametrize("seed", SEEDS)
def test_average_precision_is_the_best_precision_at_eleven_recalls(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.permutation(25).astype(float)
    shown = random.random(25) < 0.3
    shown[random.integers(25)] = True
    if seed == 0:
        shown[:] = True
    ranked = shown[np.argsort(-scores)]
    points = [(ranked[:n].sum() / shown.sum(), ranked[:n].mean()) for n in range(1, 26)]
    best = [max((p for r, p in points if r >= tenth / 10 - 1e-12), default=0.0) for tenth in range(11)]
    assert average_precision(torch.from_numpy(scores), torch.from_numpy(shown)) == pytest.approx(np.mean(best))


@pytest.mark.parametrize("seed", SEEDS)
def test_retrieval_among_equal_images_lies_between_the_luckiest_and_the_unluckiest_order(seed: int) -> None:
    """Half of the images are copies of others, so that similarities tie; the last one is alone in its class."""
    random, _, truth = _labels(seed, 24)
    rows = random.normal(size=(12, 5))
    x = np.concatenate([rows, rows])
    truth[-1] = 6
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    bounds = {-1: np.zeros(3), 1: np.zeros(3)}
    queries = [q for q in range(24) if (truth == truth[q]).sum() > 1]
    for luck in bounds:
        for q in queries:
            others = [i for i in range(24) if i != q]
            others.sort(key=lambda i: (-round(float(unit[q] @ unit[i]), 6), -luck * (truth[i] == truth[q])))
            relevant = int((truth == truth[q]).sum()) - 1
            hits = np.array([truth[i] == truth[q] for i in others[:relevant]])
            precision = hits.cumsum() / np.arange(1, relevant + 1)
            bounds[luck] += np.array([hits[0], hits.mean(), (hits * precision).sum() / relevant])
    found = retrieve(torch.from_numpy(x), torch.from_numpy(truth))
    for place, name in enumerate(("precision_at_1", "r_precision", "map_at_r")):
        low, high = (bounds[luck][place] / len(queries) for luck in (-1, 1))
        assert low - 1e-9 <= found[name] <= high + 1e-9, name


def _probabilities(seed: int) -> tuple[Tensor, Tensor]:
    random, classes, truth = _labels(seed)
    p = torch.from_numpy(random.dirichlet(np.ones(classes), len(truth)))
    return (p.round(decimals=1) if seed % 3 == 1 else p), torch.from_numpy(truth)  # some lie on the edges of bins


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_error_weighs_the_gap_of_each_bin(seed: int) -> None:
    p, truth = _probabilities(seed)
    bins, error = 10, 0.0
    for number in range(bins):
        inside = [
            (float(row.max()), bool(row.argmax() == label))
            for row, label in zip(p, truth, strict=True)
            if number < float(row.max()) * bins <= number + 1
        ]
        if inside:
            confidence, right = (np.mean(column) for column in zip(*inside, strict=True))
            error += len(inside) / len(p) * abs(right - confidence)
    assert calibration_error(p, truth, bins) == pytest.approx(error, abs=1e-12)


@pytest.mark.parametrize("seed", [2, 3, 5, 6])
def test_calibration_error_agrees_with_torchmetrics(seed: int) -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    p, truth = _probabilities(seed)
    theirs = functional.multiclass_calibration_error(p, truth, num_classes=p.shape[1], n_bins=15, norm="l1")
    assert calibration_error(p, truth, 15) == pytest.approx(float(theirs), abs=1e-6)
