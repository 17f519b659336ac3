"""Scores of stored features equal those of the probes and of scikit-learn on the same draw."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize

from cl_semisup import plugins
from cl_semisup.evaluation import Features
from cl_semisup.scoring import draws, feature_file, neighbours, scores, softmax
from cl_semisup.scoring.feature_file import StoredFeatures
from cl_semisup.scoring.rows import Rows
from cl_semisup.scoring.scores import DrawScores


@pytest.fixture(scope="module")
def stored() -> StoredFeatures:
    """600 rows of 20 features of overlapping classes, two of them rare; some labels are unknown."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [200, 150, 150, 120, 90, 90])
    means = random.normal(size=(6, 20))
    x = (means[labels] + 1.5 * random.normal(size=(800, 20)) + 0.3).astype(np.float16)
    order = random.permutation(800)
    x, labels = x[order], labels[order]
    known = labels[:600].copy()
    known[:30] = -1
    parts = {"train": x[:600], "train_labels": known, "test": x[600:], "test_labels": labels[600:]}
    return feature_file.from_arrays("stored", parts)


@pytest.fixture(scope="module")
def measured(stored: StoredFeatures) -> scores.Scores:
    drawn = draws.draw_all(stored.train_labels, [draws.parse(text) for text in ("5/class", "20%", "100%")], 2, "digits")
    return scores.measure(stored, drawn, "digits")


def draws_of(measured: scores.Scores) -> list[DrawScores]:
    return [draw for budget in measured.budgets for draw in budget]


def parts(stored: StoredFeatures, draw: DrawScores) -> tuple[Any, Any, Any, Any]:
    x, q = stored.train.numpy().astype(np.float64), stored.test.numpy().astype(np.float64)
    return x[draw.draw.rows], stored.train_labels[draw.draw.rows], q, stored.test_labels


def test_the_draws_are_those_of_the_budgets(measured: scores.Scores) -> None:
    assert [(len(budget), len(budget[0].draw.rows)) for budget in measured.budgets] == [(2, 30), (2, 115), (1, 570)]


def test_knn_is_scikit_learns(stored: StoredFeatures, measured: scores.Scores) -> None:
    for draw in draws_of(measured):
        x, y, q, truth = parts(stored, draw)
        weights: Callable[[Any], Any] = lambda distance: np.exp((1 - distance) / 0.1)  # noqa: E731
        model = KNeighborsClassifier(min(200, len(y)), metric="cosine", algorithm="brute", weights=weights).fit(x, y)
        assert draw.score("knn_top1") == pytest.approx((model.predict(q) == truth).mean(), abs=1e-3)


def test_nearest_mean_is_scikit_learns(stored: StoredFeatures, measured: scores.Scores) -> None:
    for draw in draws_of(measured):
        x, y, q, truth = parts(stored, draw)
        predicted = NearestCentroid().fit(normalize(x), y).predict(normalize(q))
        assert draw.score("nearest_mean_top1") == pytest.approx((predicted == truth).mean(), abs=1e-3)


def test_the_linear_score_is_scikit_learns_with_the_same_penalty(
    stored: StoredFeatures, measured: scores.Scores
) -> None:
    for draw in draws_of(measured):
        x, y, q, truth = parts(stored, draw)
        scaler = StandardScaler().fit(x)
        c = 1 / (draw.diagnostics["linear_strength"] * len(y))
        model = LogisticRegression(C=c, tol=1e-6, max_iter=5000).fit(scaler.transform(x), y)
        expected = (model.predict(scaler.transform(q)) == truth).mean()
        assert draw.score("linear_top1") == pytest.approx(expected, abs=1e-3)
        assert draw.diagnostics["linear_converged"] == 1


def test_the_ridge_score_is_scikit_learns_with_the_same_penalty(
    stored: StoredFeatures, measured: scores.Scores
) -> None:
    for draw in draws_of(measured):
        x, y, q, truth = parts(stored, draw)
        scaler = StandardScaler().fit(x)
        model = RidgeClassifier(alpha=draw.diagnostics["ridge_strength"] * len(y)).fit(scaler.transform(x), y)
        expected = (model.predict(scaler.transform(q)) == truth).mean()
        assert draw.score("ridge_top1") == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("probe", ["knn", "linear", "nearest_mean", "ridge", "loranpac"])
def test_with_all_labels_the_scores_are_those_of_the_probes(
    stored: StoredFeatures, measured: scores.Scores, probe: str
) -> None:
    (draw,) = measured.budgets[-1]
    known = torch.from_numpy(draw.draw.rows)
    train, test = stored.train[known].float(), stored.test.float()
    labels, truth = torch.from_numpy(stored.train_labels)[known], torch.from_numpy(stored.test_labels)
    features = Features(train, test, train, test, labels, truth, labels, (test, test), 6, ("digits", 0))
    result = plugins.load("evaluation", probe)().measure(features)
    assert draw.score(f"{probe}_top1") == pytest.approx(result.scores[f"{probe}_top1"], abs=1e-5)
    if probe in ("linear", "ridge"):
        assert draw.diagnostics[f"{probe}_strength"] == result.diagnostics[f"{probe}_strength"]


def test_geometry_is_the_probes(stored: StoredFeatures, measured: scores.Scores) -> None:
    test = stored.test.float()
    labels = torch.from_numpy(stored.test_labels)
    features = Features(test, test, test, test, labels, labels, labels, (test, test), 6, ("digits", 0))
    expected = plugins.load("evaluation", "geometry")().measure(features).diagnostics
    assert measured.geometry == {name: pytest.approx(expected[name], abs=1e-6) for name in measured.geometry}


def test_a_set_that_is_read_in_chunks_has_the_same_solution(
    stored: StoredFeatures, measured: scores.Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither rows turned in memory, nor columns of all similarities, nor draws side by side move a score."""
    monkeypatch.setattr(softmax, "IN_MEMORY", 0)
    monkeypatch.setattr(neighbours, "BUFFER", 30_000)
    monkeypatch.setattr(scores, "SIDE_BY_SIDE", 0)
    monkeypatch.setattr(Rows.chunks, "__defaults__", (100, torch.float32))
    monkeypatch.setattr(Rows.unit_chunks, "__defaults__", (100, torch.float32))
    again = scores.measure(stored, [[one.draw for one in budget] for budget in measured.budgets], "digits")
    for first, second in zip(draws_of(measured), draws_of(again), strict=True):
        for name in scores.SCORES:
            assert first.score(name) == pytest.approx(second.score(name), abs=1e-3)


def test_progress_is_called_as_often_as_announced(stored: StoredFeatures, measured: scores.Scores) -> None:
    drawn = [[one.draw for one in budget] for budget in measured.budgets[:1]]
    calls: list[str] = []
    scores.measure(stored, drawn, "digits", calls.append)
    assert len(calls) == scores.steps(drawn)


def test_more_features_than_rows_and_constant_columns_do_no_harm() -> None:
    random = np.random.default_rng(1)
    labels = np.tile(np.arange(3), 10)
    x = np.concatenate([random.normal(size=(30, 50)) + labels[:, None], np.full((30, 3), 7.0)], axis=1)
    features = feature_file.from_arrays("wide", {"features": x, "labels": labels}, None, 0.3)
    measured = scores.measure(features, draws.draw_all(features.train_labels, None, 2, "f"), "f")
    for draw in draws_of(measured):
        rows = draw.draw.rows
        scaler = StandardScaler().fit(features.train.numpy()[rows])
        z, q = scaler.transform(features.train.numpy()[rows]), scaler.transform(features.test.numpy())
        y, alpha = features.train_labels[rows], draw.diagnostics["ridge_strength"] * len(rows)
        model = RidgeClassifier(alpha=alpha).fit(z, y)
        assert draw.score("ridge_top1") == pytest.approx((model.predict(q) == features.test_labels).mean(), abs=1e-3)


def test_features_that_are_one_point_are_collapsed() -> None:
    x = np.ones((40, 4), dtype=np.float32)
    features = feature_file.from_arrays("point", {"features": x, "labels": np.tile([0, 1], 20)})
    measured = scores.measure(features, draws.draw_all(features.train_labels, None, 2, "f"), "f")
    assert measured.verdict == "collapsed"
    assert "one point" in measured.reason
