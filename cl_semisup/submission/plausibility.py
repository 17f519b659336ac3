"""Can this record be what a run of this suite writes? Rules that need no training: counts, times, curves, verdicts.

A forger who knows every rule can satisfy it; runs that are done again (rerun.py) are the stronger check.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cl_semisup.results import verdict
from cl_semisup.results.records import MAX_VALUE, Record
from cl_semisup.submission import curve_form
from cl_semisup.suite.run import Run

TOP1 = ("knn_top1", "linear_top1")  # shares of test images that are right, so multiples of 1 / images
ROUNDING = 1e-6
MAX_IMAGES_A_SECOND = 1e7
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)  # before this package, on any clock that is set
ENERGY = ("cpu_joules", "gpu_joules", "energy_joules", "grams_co2_per_kwh", "co2_kg")
SPEED_TOLERANCE = 0.05  # of steps x batch size against images a second x seconds


def problems(
    run: Run, record: Record, curves: dict[str, Any], test_labels: np.ndarray | None
) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong). `test_labels` (N,) are None where the data are not at hand."""
    if record["status"] == "failed":
        return
    yield from _scores(record, None if test_labels is None else len(test_labels))
    yield from _cost(run, record)
    if run.epochs:
        yield from curve_form.problems(run, record, curves)
        yield from _status(record, curves, test_labels)


def _scores(record: Record, test_images: int | None) -> Iterator[tuple[str, str]]:
    if record["status"] in ("ok", "collapsed") and not record["scores"]:
        yield "scores", f"a run that ended {record['status']} has no score"
    if test_images is None:
        return
    for name, value in record["scores"].items():
        plain = name.removeprefix("projection_").removesuffix("_labelled")
        count = value * test_images
        if plain in TOP1 and abs(count - round(count)) > ROUNDING * test_images:
            yield "scores", f"{name} is {value!r}, which no share of {test_images} test images is"


def _cost(run: Run, record: Record) -> Iterator[tuple[str, str]]:
    cost, steps = record["cost"], record["resolved"].get("steps")
    seconds, speed = cost.get("train_seconds"), cost.get("images_per_second")
    if run.epochs and record["status"] == "ok" and not (_number(seconds) and seconds > 0):
        yield "cost", f"train_seconds is {seconds!r}, and a training takes time"
    if _number(speed) and speed > MAX_IMAGES_A_SECOND:
        yield "cost", f"images_per_second is {speed:.3g}, more than any machine trains"
    if (
        _number(seconds)
        and _number(speed)
        and _number(steps)
        and run.batch_size
        and not record["resolved"].get("chunks")
    ):
        expected = steps * run.batch_size
        if record["status"] == "ok" and expected and abs(seconds * speed / expected - 1) > SPEED_TOLERANCE:
            yield "cost", f"{seconds:.3g} s at {speed:.4g} images a second are not {steps} steps of {run.batch_size}"
    negative = [name for name, value in cost.items() if not (_number(value) and value >= 0)]
    yield from (
        ("cost", f"{name} is {cost[name]!r}, and what is spent is at least 0")
        for name in negative
        if name not in ENERGY
    )
    yield from _energy(cost)
    try:
        began = datetime.fromisoformat(str(record.get("started_at"))).astimezone(UTC)
        if began < FIRST_DAY:
            yield "cost", f"it began before there was this package, at {began.isoformat()}"
        if began > datetime.now(UTC):
            yield "cost", f"it began in the future, at {began.isoformat()}"
    except (ValueError, OverflowError):
        yield "cost", "started_at is no time"


def _energy(cost: dict[str, Any]) -> Iterator[tuple[str, str]]:
    parts = [cost.get(name, 0.0) for name in ("cpu_joules", "gpu_joules")]
    joules, grams = cost.get("energy_joules", 0.0), cost.get("grams_co2_per_kwh", 0.0)
    co2 = cost.get("co2_kg", 0.0)
    if not all(_number(value) and value >= 0 for value in (*parts, joules, grams, co2)):
        yield "cost", "joules, CO2 and its factor are at least 0"
    elif not math.isclose(joules, sum(parts), rel_tol=ROUNDING):
        yield "cost", f"energy_joules is {joules:.4g}, and its parts are {sum(parts):.4g} together"
    elif not math.isclose(co2, joules * grams / 3.6e9, rel_tol=ROUNDING):
        yield "cost", f"co2_kg is {co2:.4g}, which {joules:.4g} joules at {grams:.4g} g a kWh are not"


def _status(record: Record, curves: dict[str, Any], test_labels: np.ndarray | None) -> Iterator[tuple[str, str]]:
    """The verdict anew, from what the record holds; a loss's value for a single point is not known here."""
    history = curves.get("history")
    losses = history.get("loss") if isinstance(history, dict) else None
    losses = losses if isinstance(losses, list) else []  # what is no list is told by the rule of curves
    status, resolved, reason = record["status"], record["resolved"], record["reason"]
    collapsed = _collapse(record, curves, test_labels)
    if status == "ok" and collapsed:
        yield "status", f"{collapsed}, and the run is told to be ok"
    exploded = not all(map(_number, losses)) or verdict.divergence(losses)
    if status == "diverged" and not (exploded or "diverged_at_step" in resolved or "stopped_at_step" in resolved):
        yield "status", "the run is told to have diverged, and its loss has not"
    by_loss = any(f"{loss:.4g}" in reason for loss in losses[-1:] if _number(loss))
    by_scores = test_labels is None and "chance is" in reason  # which chance is, the test labels tell
    if status == "collapsed" and not (collapsed or by_loss or by_scores or "stopped_at_step" in resolved):
        yield "status", "the run is told to have collapsed, and neither its embeddings nor its loss say so"


def _collapse(record: Record, curves: dict[str, Any], test_labels: np.ndarray | None) -> str:
    """Of a frozen encoder the projections are judged. The spectrum has a value for each direction that is possible."""
    prefix = "projection_" if "freeze" in str(record["run"].get("encoder")) else ""
    judged = {name: record["diagnostics"].get(f"{prefix}{name}") for name in ("feature_std", "effective_rank")}
    scores = {name: record["scores"].get(f"{prefix}{name}") for name in TOP1}
    spectrum = curves.get("singular_values")
    dim = len(spectrum) if isinstance(spectrum, list) and not prefix else 0
    classes = record["resolved"].get("classes", 0)
    facts: dict[str, Any] = {"classes": classes, "images": dim, "dim": dim}
    if test_labels is not None and np.ndim(test_labels) == 1:
        images = len(test_labels)
        facts |= {"images": images, "chance": float(np.bincount(test_labels).max()) / images}
    return verdict.collapse(_known(judged), _known(scores), **facts)


def _known(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if _number(value)}


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_VALUE  # a whole number may be too large for a float
