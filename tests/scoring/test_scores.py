"""Scores of stored features equal those of the probes and of scikit-learn on the same draw."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize

from cl_semisup import plugins, seeds
from cl_semisup.evaluation import Features
from cl_semisup.scoring import draws, feature_file, least_squares, neighbours, products, scores, softmax
from cl_semisup.scoring import moments as moments_module
from cl_semisup.scoring.feature_file import StoredFeatures
from cl_semisup.scoring.moments import Moments
from cl_semisup.scoring.rows import Rows
from cl_semisup.scoring.scores import DrawScores
from cl_semisup.scoring.threads import in_threads


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


@pytest.mark.parametrize("in_memory", [0, 10**6])
def test_threads_that_divide_the_rows_find_the_same_loss(
    stored: StoredFeatures, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "IN_MEMORY", in_memory)
    monkeypatch.setattr(softmax, "CHUNK", 17)
    known = np.flatnonzero(stored.train_labels >= 0)[:100]
    rows, y = Rows(stored.train).subset(known), stored.train_labels[known]
    moments = Moments.of(rows, y, 6)
    weight = torch.randn(6, len(moments.variances), generator=torch.Generator().manual_seed(0))
    problems = [softmax.SoftmaxProblem(rows, y, moments, workers) for workers in (1, 3)]
    one, three = (problem._loss(weight, torch.ones(6), curvature=True) for problem in problems)
    for a, b in zip(one, three, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b))


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1.0])
def test_a_weak_penalty_is_solved_to_the_end(stored: StoredFeatures, strength: float) -> None:
    """The loss is that of scikit-learn's solution to four digits, where almost all rows are certain too."""
    known = np.flatnonzero(stored.train_labels >= 0)[:60]
    x, y = stored.train.numpy()[known].astype(np.float64), stored.train_labels[known]
    rows = Rows(stored.train).subset(known)
    moments = Moments.of(rows, y, 6)
    problem = softmax.SoftmaxProblem(rows, y, moments)
    rough = problem.solve(strength, [], 1e-3)
    weight, bias = moments.on_raw_rows(*problem.solve(strength, [rough], 1e-7))
    scaler = StandardScaler().fit(x)
    z, scaled = scaler.transform(x), weight.numpy() * scaler.scale_
    model = LogisticRegression(C=1 / (strength * len(y)), tol=1e-10, max_iter=10_000).fit(z, y)

    def loss(logits: Any, coefficients: Any) -> float:
        log_p = torch.log_softmax(torch.from_numpy(logits), dim=1)[range(len(y)), y]
        return float(-log_p.mean() + strength / 2 * (coefficients**2).sum())

    best = loss(model.decision_function(z), model.coef_)
    assert loss(x @ weight.numpy().T + bias.numpy(), scaled) == pytest.approx(best, rel=1e-4)
    q = stored.test.numpy().astype(np.float64)
    same = (q @ weight.numpy().T + bias.numpy()).argmax(axis=1) == model.predict(scaler.transform(q))
    assert same.mean() >= 0.995


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


def test_every_repetition_has_random_features_of_its_own(
    stored: StoredFeatures, measured: scores.Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that LoRanPAC's interval over repetitions holds what its random features add."""
    made: list[int] = []

    class Counted(least_squares.RandomFeatures):
        def __init__(self, width: int, count: int, seed: int):
            made.append(seed)
            super().__init__(width, count, seed)

    monkeypatch.setattr(least_squares, "RandomFeatures", Counted)
    scores.measure(stored, [[one.draw for one in measured.budgets[0]]], "digits")
    assert made == [seeds.seed("loranpac", "digits", r) for r in range(len(measured.budgets[0]))]
    assert len(set(made)) == len(made) > 1


def test_collapse_is_judged_with_the_scores_of_the_most_labels(
    stored: StoredFeatures, measured: scores.Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[dict[str, float]] = []
    monkeypatch.setattr(scores.verdict, "collapse", lambda _, found, **__: judged.append(found) or "")
    scores.measure(stored, [[one.draw for one in measured.budgets[n][:1]] for n in (0, -1)], "digits")
    (draw,) = measured.budgets[-1]
    assert judged == [{name: pytest.approx(draw.score(name), abs=1e-3) for name in scores.verdict.PROBES}]


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


@pytest.mark.parametrize("count", [50, 1700, 5003])
def test_the_largest_values_found_by_blocks_are_the_largest(count: int) -> None:
    values = torch.randn(7, count, generator=torch.Generator().manual_seed(0))
    found, columns = neighbours._largest(values, 20)
    assert torch.equal(found.sort(dim=1, descending=True).values, values.topk(20, dim=1).values)
    assert torch.equal(values.gather(1, columns), found)


def test_few_rows_have_the_moments_of_the_long_way(stored: StoredFeatures) -> None:
    """From X X^T as from X^T X: the same predictions of ridge, also with fewer rows than features."""
    rows = Rows(stored.train).subset(np.arange(40, 58))
    mean = torch.stack([chunk.mean(dim=0) for _, chunk in rows.chunks(dtype=torch.float64)])[0]
    few, many = moments_module._of_few(rows, mean), moments_module._of_many(rows, mean)
    assert torch.allclose(few[0], many[0]) and torch.allclose(few[1], many[1])
    assert torch.allclose(few[2] @ few[2].T, many[2] @ many[2].T)


@pytest.mark.parametrize("width", [2, 9])  # more rows than features, and fewer
@pytest.mark.parametrize(("distance", "variance"), [(3.0, 1.0), (0.0, 0.0)])
def test_directions_in_which_rows_do_not_differ_are_left_out_but_one(
    width: int, distance: float, variance: float
) -> None:
    """Two points that differ in one feature have one direction; equal rows have one too, without a variance."""
    values = np.full((6, width), 1.5)
    values[::2, 0] += distance
    moments = Moments.of(Rows(torch.from_numpy(values)), np.arange(6) % 2, 2)
    assert moments.variances.tolist() == pytest.approx([variance])
    assert moments.directions.shape == (width, 1)


def test_products_by_half_of_the_multiplications_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "BLOCK", 3)
    rows = torch.randn(30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(7, 7, dtype=torch.float64)
    products.add_square(total, rows[:12])
    products.add_square(total, rows[12:])
    torch.testing.assert_close(total.triu(), (rows.T @ rows).triu())
    torch.testing.assert_close(products.square(rows).triu(), (rows @ rows.T).triu())


@pytest.mark.parametrize("rank", [1, 3, 8, 11])  # of 8 rows or columns, of which at most 6 directions are kept
@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_strongest_directions_are_those_of_an_eigendecomposition(size: int, rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    h = torch.randn(size, rank, dtype=torch.float64, generator=generator)
    right, keep = torch.randn(size, 2, dtype=torch.float64, generator=generator), max(1, round(0.75 * size))
    space = torch.cat([torch.zeros(1, size, dtype=torch.float64), (h @ h.T).triu()])
    left, values, _ = torch.linalg.svd(h, full_matrices=False)
    strongest, squares = left[:, : min(keep, rank)], values[: min(keep, rank), None].square()
    expected = strongest @ (strongest.T @ right / squares)
    torch.testing.assert_close(least_squares._solve_strongest(space, right, keep), expected)


def test_pieces_keep_their_order_and_the_number_of_threads_comes_back() -> None:
    before = torch.get_num_threads()
    assert in_threads(lambda piece: (piece, torch.get_num_threads()), range(5)) == [(piece, 1) for piece in range(5)]
    assert torch.get_num_threads() == before
