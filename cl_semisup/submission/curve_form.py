"""Can these be the curves of a training? What their form and their end tell without training.

A training draws batches and views, so its curves are rough, and single precision is what it logs in. An invented curve,
such as a constant or a line, is neither. A forger who copies the form of a real curve passes here; the first points are
computed again (first_points.py), and cells that are run again prove the rest (rerun.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cl_semisup.results import verdict
from cl_semisup.results.numbers import is_number
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run

OF_BATCHES = ("loss", "gradient_norm", "effective_rank", "feature_std", "alignment")  # float32 numbers of drawn batches
LONG = 30  # points from which a curve's roughness is known well
SMOOTH = {"long": 0.1, "short": 0.005}  # roughness below which a curve is invented; see `roughness`
MIN_DOF = 6  # points more than coefficients, for a recurrence that is fitted
SINGLE_ROUNDING = 1e-6  # of float32, in units of a curve's largest value


def problems(run: Run, record: Record, curves: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong) with the curves of a training."""
    history, steps, ok = curves.get("history"), record["resolved"].get("steps"), record["status"] == "ok"
    if not isinstance(history, dict) or not isinstance(history.get("step"), list) or not history["step"]:
        if ok:
            yield "curves", "a training has no curves"
        return
    at, losses = history["step"], history.get("loss", [])
    if any(not isinstance(values, list) or len(values) != len(at) for values in history.values()):
        yield "curves", "the curves have different lengths"
        return
    if not all(type(step) is int for step in at) or at != sorted(set(at)) or (is_number(steps) and at[-1] > steps):
        yield "curves", f"the curves' steps do not rise from 0 to {steps}"
    if ok and not all(map(is_number, losses)):
        yield "curves", "the loss is not finite, and the run is told to be ok"
    elif ok and (why := verdict.divergence(losses)):
        yield "curves", f"{why}, and the run is told to be ok"
    sound = {name: history[name] for name in OF_BATCHES if all(map(is_number, history.get(name, [None])))}
    for name, values in sound.items():
        if wrong := next((value for value in values if float(np.float32(value)) != value), None):
            yield "curves", f"{name} has {wrong!r}, which single precision cannot hold, in which trainings log"
    if ok:
        yield from _invented(run, record, sound)
    yield from _ends(record, history)


def _invented(run: Run, record: Record, curves: dict[str, list[float]]) -> Iterator[tuple[str, str]]:
    """Constant or smooth ones. Batches of all images without random views could give these, and are not judged."""
    if not (run.batch_size or 0) < (record["resolved"].get("train_images") or 0):
        return
    still = not any(curves.get("gradient_norm", []))  # a loss may be 0 with all its gradients
    for name, values in curves.items():
        if len(set(values)) == 1:
            if len(values) >= 3 and name in ("loss", "gradient_norm") and not still:
                yield "curves", f"{name} is {values[0]!r} at all {len(values)} points, and batches differ"
        elif roughness(values) < SMOOTH["long" if len(values) >= LONG else "short"]:
            yield "curves", f"{name} is smooth, as no curve of random batches is"


def roughness(values: Sequence[float]) -> float:
    """The median of what is left of a curve's steps when the smooth curve that fits best is taken away; inf for < 5.

    The smooth ones are the straight line and the linear recurrences of up to three terms: polynomials of degree two,
    exponential functions and waves obey one. Published curves of 40 points have at least 0.36, those of 14 points
    0.027 and those of 6 points 0.03; lines, powers, logarithms and logistic functions of 40 points at most 0.02.
    """
    curve = np.asarray(values, dtype=float)
    steps = np.maximum(np.abs(np.diff(curve)), SINGLE_ROUNDING * np.abs(curve).max())
    if len(curve) < 5:
        return float("inf")
    time = np.arange(float(len(curve)))
    fits = [(curve - np.polyval(np.polyfit(time, curve, 1), time))[1:]]
    for order in (1, 2, 3):
        rows = len(curve) - order
        if rows - (order + 1) >= MIN_DOF:
            terms = np.stack([*(curve[lag : lag + rows] for lag in range(order)), np.ones(rows)], axis=1)
            fits.append(curve[order:] - terms @ np.linalg.lstsq(terms, curve[order:])[0])
    return min(float(np.median(np.abs(left) / steps[-len(left) :])) for left in fits)


def _ends(record: Record, history: dict[str, list[Any]]) -> Iterator[tuple[str, str]]:
    """What the record says of the curves' last point."""
    resolved, last = record["resolved"], history["step"][-1]
    stopped, diverged, good = (resolved.get(key) for key in ("stopped_at_step", "diverged_at_step", "last_good"))
    if stopped is not None and stopped != last:
        yield "curves", f"the run stopped at step {stopped!r}, and its curves end at {last!r}"
    if is_number(diverged) and is_number(last) and diverged <= last and diverged != resolved.get("steps"):
        yield "curves", f"the run diverged at step {diverged!r}, and its curves go on to {last!r}"
    if isinstance(good, dict) and good != {name: values[-1] for name, values in history.items()}:
        yield "curves", "last_good is not the last point of the curves"
