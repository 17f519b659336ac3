"""Scores of stored features on every draw of every label budget, by the definitions of the probes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

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
from cl_semisup.scoring.softmax import SoftmaxProblem, Solution
from cl_semisup.scoring.threads import in_threads, threads_each
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
    truth = torch.from_numpy(features.test_labels)
    # one block for all draws: many small ones that stay would scatter the free memory
    right = {name: torch.empty(len(flat), len(truth), dtype=torch.bool) for name in SCORES}
    nearest = neighbours.knn(train, features.train_labels, test, sets, features.classes, *options)
    torch.eq(nearest, truth, out=right["knn_top1"])
    progress("kNN")
    diagnostics = _fit_all(features, flat, right, seed_name, progress)
    shape = _geometry(features)
    progress("geometry")
    by_draw = {
        id(draw): DrawScores(draw, {name: right[name][i].numpy() for name in SCORES}, diagnostics[i])
        for i, draw in enumerate(flat)
    }
    budgets = tuple(tuple(by_draw[id(draw)] for draw in drawn) for drawn in draws)
    reason = _collapse(features, budgets, shape)
    seconds = time.perf_counter() - began
    return Scores(features, budgets, shape, "collapsed" if reason else "ok", reason, seconds, tuple(warnings))


def steps(draws: Sequence[Sequence[Draw]]) -> int:
    """How often `measure` calls `progress`."""
    return 2 + sum(map(len, draws)) + max(map(len, draws))


Right = Mapping[str, Tensor]  # which test rows are predicted right, by score: (D, T) bool of D draws, or (T,)


def _fit_all(
    features: StoredFeatures, draws: Sequence[Draw], right: Right, seed_name: str, progress: Progress
) -> list[dict[str, float]]:
    """Fit all classifiers but kNN to each draw, and enter what they get right; the diagnostics of the draws.

    Small label sets have one core each, side by side, and one core of two makes LoRanPAC beside them, the
    largest sets first, while the smallest are fitted: so those that need most memory do not meet. Then each large set
    has all cores: threads divide its rows, and no operation has threads of its own, since they would mostly wait.
    """
    cores, width = torch.get_num_threads(), features.train.shape[1]
    large = [i for i, draw in enumerate(draws) if len(draw.rows) * width > SIDE_BY_SIDE]
    diagnostics: dict[int, dict[str, float]] = {}

    def fit(i: int) -> None:
        own = {name: right[name][i] for name in SCORES}
        diagnostics[i] = _fit(features, draws[i], own, seed_name, cores if i in large else 1)
        progress(f"labels {draws[i].label}")

    def loranpac(repetitions: Sequence[int]) -> None:
        members = [i for i in reversed(by_size) if draws[i].repetition in repetitions]
        weights = {i: _loranpac(features, draws[i], random[draws[i].repetition]) for i in members}
        for repetition in repetitions:
            own = [i for i in members if draws[i].repetition == repetition]
            found = least_squares.predict(random[repetition], Rows(features.test), [weights[i] for i in own])
            right["loranpac_top1"][own] = found == torch.from_numpy(features.test_labels)
            progress("LoRanPAC")

    repetitions, chains = sorted({draw.repetition for draw in draws}), max(1, cores // 2)
    count, by_size = int(SETTINGS["loranpac"]["width"]), sorted(range(len(draws)), key=lambda i: len(draws[i].rows))
    random = {r: least_squares.RandomFeatures(width, count, seed("loranpac", seed_name, r)) for r in repetitions}
    small = [i for i in by_size if i not in large]
    works = [partial(loranpac, repetitions[i::chains]) for i in range(chains)] + [partial(fit, i) for i in small]
    in_threads(lambda work: work(), works)
    with threads_each(1):
        for i in large:
            fit(i)
    return [diagnostics[i] for i in range(len(draws))]


def _fit(features: StoredFeatures, draw: Draw, right: Right, seed_name: str, cores: int) -> dict[str, float]:
    """Linear, ridge and nearest mean, which are fitted to a draw alone."""
    rows, labels = Rows(features.train).subset(draw.rows), features.train_labels[draw.rows]
    split_seed = seed("validation", seed_name, draw.repetition)
    linear, ridge, diagnostics = _linear_models(rows, labels, features.classes, split_seed, cores)
    means, truth = neighbours.class_means(rows, labels), torch.from_numpy(features.test_labels)
    test = Rows(features.test)
    for (part, chunk), (_, unit) in zip(test.chunks(), test.unit_chunks(), strict=True):
        for name, (weight, bias) in (("linear_top1", linear), ("ridge_top1", ridge)):
            right[name][part] = torch.addmm(bias, chunk, weight.T).argmax(dim=1) == truth[part]
        right["nearest_mean_top1"][part] = neighbours.nearest_mean(unit, *means) == truth[part]
    return diagnostics


def _loranpac(features: StoredFeatures, draw: Draw, random: least_squares.RandomFeatures) -> Tensor:
    """(E, C) weights in float32, on random features that the draws of a repetition share."""
    options = SETTINGS["loranpac"]
    chosen = draw.rows[evenly(len(draw.rows), int(options["images"])).numpy()]
    rows, labels = Rows(features.train).subset(chosen), features.train_labels[chosen]
    return least_squares.truncated(random, rows, labels, features.classes, options["truncation"]).float()


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
        del problem, validation, moments  # large
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
