"""Can this record be what a run of this suite writes? Rules that need no training: counts, times, curves, verdicts.

A forger who knows every rule can satisfy it; runs that are done again (rerun.py) are the stronger check.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cl_semisup.results import verdict
from cl_semisup.results.records import MAX_VALUE, Record
from cl_semisup.suite.run import Run

TOP1 = ("knn_top1", "linear_top1")  # shares of test images that are right, so multiples of 1 / images
ROUNDING = 1e-6
MAX_IMAGES_A_SECOND = 1e7
SPEED_TOLERANCE = 0.05  # of steps x batch size against images a second x seconds


def problems(run: Run, record: Record, curves: dict[str, Any], test_images: int | None) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong). `test_images` is None where the data are not at hand."""
    if record["status"] == "failed":
        return
    yield from _scores(record, test_images)
    yield from _cost(run, record)
    if run.epochs:
        yield from _curves(run, record, curves)
    yield from _status(record)


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
    yield from _energy(cost)
    try:
        began = datetime.fromisoformat(str(record.get("started_at")))
        if began.astimezone(UTC) > datetime.now(UTC):
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


def _curves(run: Run, record: Record, curves: dict[str, Any]) -> Iterator[tuple[str, str]]:
    history, steps = curves.get("history"), record["resolved"].get("steps")
    if not isinstance(history, dict) or not isinstance(history.get("step"), list) or not history["step"]:
        if record["status"] == "ok":
            yield "curves", "a training has no curves"
        return
    at, losses = history["step"], history.get("loss", [])
    if any(not isinstance(values, list) or len(values) != len(at) for values in history.values()):
        yield "curves", "the curves have different lengths"
        return
    if not all(type(step) is int for step in at) or at != sorted(set(at)) or (_number(steps) and at[-1] > steps):
        yield "curves", f"the curves' steps do not rise from 0 to {steps}"
    finite = [_number(loss) for loss in losses]
    if record["status"] == "ok" and not all(finite):
        yield "curves", "the loss is not finite, and the run is told to be ok"
    elif record["status"] == "ok" and (why := verdict.divergence(losses)):
        yield "curves", f"{why}, and the run is told to be ok"


def _status(record: Record) -> Iterator[tuple[str, str]]:
    frozen = "projection_" if "freeze" in str(record["run"].get("encoder")) else ""
    measured = {"feature_std": record["diagnostics"].get(f"{frozen}feature_std")}
    if record["status"] == "ok" and record["run"].get("epochs") and (why := verdict.collapse(_known(measured))):
        yield "status", f"{why}, and the run is told to be ok"


def _known(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if _number(value)}


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_VALUE  # a whole number may be too large for a float
