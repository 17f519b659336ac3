"""Scores of stored features on every draw of every label budget, by the definitions of the probes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.evaluation import evenly
from cl_semisup.measures import geometry
from cl_semisup.measures.logistic import DEFAULT_STRENGTH, SEARCH_TOLERANCE, STRENGTHS, hold_out
from cl_semisup.results import verdict
from cl_semisup.scoring import least_squares, neighbours
from cl_semisup.scoring.draws import Draw
from cl_semisup.scoring.feature_file import StoredFeatures
from cl_semisup.scoring.moments import Moments
from cl_semisup.scoring.rows import Rows
from cl_semisup.scoring.side_by_side import side_by_side, threads_each
from cl_semisup.scoring.softmax import SoftmaxProblem, Solution
from cl_semisup.seeds import seed

SCORES = ("knn_top1", "linear_top1", "nearest_mean_top1", "ridge_top1", "loranpac_top1")
# the settings of the probes of the same names, which they have by default (PROTOCOL.md describes them); the linear
# classifier is solved to a smaller tolerance
SETTINGS = {
    "knn": {"k": 200, "temperature": 0.1},
    "linear": {"validation": 0.2, "tolerance": 1e-7},
    "nearest_mean": {},
    "ridge": {"validation": 0.2},
    "loranpac": {"width": 2000, "truncation": 0.25, "images": 10_000},
}
FITTED = ("linear_top1", "ridge_top1", "nearest_mean_top1")  # to each draw alone
GEOMETRY_ROWS = 10_000  # test rows that geometry is measured on, evenly spaced
SIDE_BY_SIDE = 8_000_000  # numbers of a label set up to which one core is enough
ROUGH = 1e-3  # tolerance of a fit that another one follows
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class DrawScores:
    """Of one draw: which test rows each classifier got right, (T,) bool by score, and diagnostics."""

    draw: Draw
    right: dict[str, np.ndarray]
    diagnostics: dict[str, float]

    def score(self, name: str) -> float:
        return float(self.right[name].mean())


@dataclass(frozen=True, eq=False)
class Scores:
    """All scores of one set of features: a list of draws for each budget, the smallest budget first."""

    features: StoredFeatures
    budgets: tuple[tuple[DrawScores, ...], ...]
    geometry: dict[str, float]
    verdict: str
    reason: str
    seconds: float
    warnings: tuple[str, ...] = field(default=())


def measure(
    features: StoredFeatures,
    draws: Sequence[Sequence[Draw]],
    seed_name: str,
    progress: Progress = lambda text: None,
    warnings: Sequence[str] = (),
) -> Scores:
    """The scores of all draws; `progress` is called `steps(draws)` times, after each step."""
    began, flat = time.perf_counter(), [draw for drawn in draws for draw in drawn]
    train, test, knn = Rows(features.train), Rows(features.test), SETTINGS["knn"]
    sets, options = [draw.rows for draw in flat], (int(knn["k"]), knn["temperature"])
    predictions = [
        {"knn_top1": found}
        for found in neighbours.knn(train, features.train_labels, test, sets, features.classes, *options)
    ]
    progress("kNN")
    models = _each(lambda draw, cores: _models(features, draw, seed_name, cores), flat, train.width, progress)
    for found, more in zip(predictions, _predictions(test, models), strict=True):
        found.update(more)
    diagnostics = [model.diagnostics for model in models]
    del models  # their weights
    for repetition in range(max(map(len, draws))):
        members = [i for i, draw in enumerate(flat) if draw.repetition == repetition]
        found_by_draw = _loranpac(features, [flat[i] for i in members], seed("loranpac", seed_name, repetition))
        for i, predicted in zip(members, found_by_draw, strict=True):
            predictions[i]["loranpac_top1"] = predicted
        progress("LoRanPAC")
    shape = _geometry(features)
    progress("geometry")
    truth, by_draw = torch.from_numpy(features.test_labels), {}
    for draw, found, facts in zip(flat, predictions, diagnostics, strict=True):
        right = {name: (found[name] == truth).numpy() for name in SCORES}
        by_draw[id(draw)] = DrawScores(draw, right, facts)
    budgets = tuple(tuple(by_draw[id(draw)] for draw in drawn) for drawn in draws)
    reason = _collapse(features, budgets, shape)
    seconds = time.perf_counter() - began
    return Scores(features, budgets, shape, "collapsed" if reason else "ok", reason, seconds, tuple(warnings))


def steps(draws: Sequence[Sequence[Draw]]) -> int:
    """How often `measure` calls `progress`."""
    return 2 + sum(map(len, draws)) + max(map(len, draws))


def _each(fit: "Fit", draws: Sequence[Draw], width: int, progress: Progress) -> "list[_Models]":
    """The models of every draw, in order: small label sets side by side on one core each, then each large one on all.

    Threads divide the rows of a large set, and no operation has threads of its own: they would mostly wait.
    """
    large = [len(draw.rows) * width > SIDE_BY_SIDE for draw in draws]
    cores = torch.get_num_threads()
    models: dict[int, _Models] = {}

    def one(i: int) -> None:
        models[i] = fit(draws[i], cores if large[i] else 1)
        progress(f"labels {draws[i].label}")

    side_by_side(one, reversed([i for i in range(len(draws)) if not large[i]]))  # the longest first
    with threads_each(1):
        for i in range(len(draws)):
            if large[i]:
                one(i)
    return [models[i] for i in range(len(draws))]


@dataclass(frozen=True, eq=False)
class _Models:
    """Of a draw: linear classifiers (C, F) and (C,) on raw rows, classes with their means of unit rows, diagnostics."""

    linear: tuple[Tensor, Tensor]
    ridge: tuple[Tensor, Tensor]
    means: tuple[Tensor, Tensor]
    diagnostics: dict[str, float]


Fit = Callable[[Draw, int], _Models]  # a draw, and on how many cores


def _models(features: StoredFeatures, draw: Draw, seed_name: str, cores: int) -> _Models:
    """The classifiers of a draw that are fitted to it alone."""
    rows, labels = Rows(features.train).subset(draw.rows), features.train_labels[draw.rows]
    split_seed = seed("validation", seed_name, draw.repetition)
    linear, ridge, diagnostics = _linear_models(rows, labels, features.classes, split_seed, cores)
    return _Models(linear, ridge, neighbours.class_means(rows, labels), diagnostics)


def _predictions(test: Rows, models: Sequence[_Models]) -> list[dict[str, Tensor]]:
    """(T,) predictions by score of every draw; each test row is read once for all of them."""
    found: list[dict[str, list[Tensor]]] = [{name: [] for name in FITTED} for _ in models]
    for (_, chunk), (_, unit) in zip(test.chunks(), test.unit_chunks(), strict=True):
        for model, predicted in zip(models, found, strict=True):
            for name, (weight, bias) in (("linear_top1", model.linear), ("ridge_top1", model.ridge)):
                predicted[name].append(torch.addmm(bias, chunk, weight.T).argmax(dim=1))
            predicted["nearest_mean_top1"].append(neighbours.nearest_mean(unit, *model.means))
    return [{name: torch.cat(parts) for name, parts in predicted.items()} for predicted in found]


def _loranpac(features: StoredFeatures, draws: Sequence[Draw], projection_seed: int) -> list[Tensor]:
    """(T,) predictions of the draws of one repetition, which share their random features."""
    options, width = SETTINGS["loranpac"], features.train.shape[1]
    random = least_squares.RandomFeatures(width, int(options["width"]), projection_seed)
    weights = []
    for draw in draws:
        chosen = draw.rows[evenly(len(draw.rows), int(options["images"])).numpy()]
        kept = Rows(features.train).subset(chosen), features.train_labels[chosen], features.classes
        weights.append(least_squares.truncated(random, *kept, options["truncation"]))
    return least_squares.predict(random, Rows(features.test), weights)


Classifier = tuple[Tensor, Tensor]  # (C, F) weights and (C,) offsets on raw rows


def _linear_models(
    rows: Rows, labels: np.ndarray, classes: int, split_seed: int, cores: int
) -> tuple[Classifier, Classifier, dict[str, float]]:
    """Logistic and ridge regression, each with the strength that is best on held-out rows (the strongest of equals)."""
    held = hold_out(labels, SETTINGS["linear"]["validation"], split_seed)
    strength = ridge_strength = DEFAULT_STRENGTH
    starts: list[Solution] = []
    evaluations = 0
    if held is not None:
        kept, kept_labels = rows.subset(np.flatnonzero(~held)), labels[~held]
        moments, truth = Moments.of(kept, kept_labels, classes), torch.from_numpy(labels[held])
        problem = SoftmaxProblem(kept, kept_labels, moments, cores)
        validation = problem.turn(rows.subset(np.flatnonzero(held)))  # (V, R)

        def right(weight: Tensor, bias: Tensor) -> int:
            return int((torch.addmm(bias, validation, weight.T).argmax(dim=1) == truth).sum())

        found = [right(*_float32(least_squares.ridge_weights(moments, candidate))) for candidate in STRENGTHS]
        ridge_strength = STRENGTHS[found.index(max(found))]
        best = -1
        for candidate, solution in problem.path(STRENGTHS, SEARCH_TOLERANCE):
            if (score := right(*solution)) > best:
                best, strength, chosen = score, candidate, solution
            if best == len(truth):  # no weaker penalty can be better
                break
        raw, evaluations = moments.on_raw_rows(*chosen), problem.steps
        del problem  # its turned rows
    moments = Moments.of(rows, labels, classes)
    if held is not None:
        starts = [_float32(moments.along_directions(*raw))]
    problem = SoftmaxProblem(rows, labels, moments, cores)
    rough = problem.solve(strength, starts, ROUGH)
    solution = problem.solve(strength, [rough], SETTINGS["linear"]["tolerance"])  # in the units of the solution
    diagnostics = {
        "linear_strength": strength,
        "linear_converged": float(problem.converged),
        "linear_evaluations": float(evaluations + problem.steps),
        "ridge_strength": ridge_strength,
    }
    linear = _float32(moments.on_raw_rows(*solution))
    return linear, _float32(moments.on_raw_rows(*least_squares.ridge_weights(moments, ridge_strength))), diagnostics


def _float32(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].float(), pair[1].float()


def _geometry(features: StoredFeatures) -> dict[str, float]:
    """As the probe `geometry`, of at most GEOMETRY_ROWS test rows; there are no views to align."""
    rows = (
        features.test
        if len(features.test) <= GEOMETRY_ROWS
        else features.test[evenly(len(features.test), GEOMETRY_ROWS)]
    )
    unit = F.normalize(rows.float(), dim=1)
    return {
        "effective_rank": float(geometry.effective_rank(unit)),
        "uniformity": float(geometry.uniformity(unit)),
        "feature_std": float(geometry.feature_std(unit)),
    }


def _collapse(features: StoredFeatures, budgets: Sequence[Sequence[DrawScores]], diagnostics: dict[str, float]) -> str:
    """Why the features count as collapsed, judged with the scores of the largest budget."""
    largest = budgets[-1][0]
    images, dim = features.test.shape
    return verdict.collapse(
        diagnostics,
        {name: largest.score(name) for name in verdict.PROBES},
        classes=features.classes,
        images=images,
        dim=dim,
        chance=float(np.bincount(features.test_labels).max()) / images,
    )
