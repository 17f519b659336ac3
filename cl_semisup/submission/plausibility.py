"""Can this record be what a run of this suite writes? Rules that need no training: counts, curves, verdicts.

A forger who knows every rule can satisfy it; runs that are done again (rerun.py) are the stronger check.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cl_semisup.results import verdict
from cl_semisup.results.numbers import is_number
from cl_semisup.results.records import Record
from cl_semisup.submission import curve_form
from cl_semisup.suite.run import Run

TOP1 = ("knn_top1", "linear_top1")  # shares of test images that are right, so multiples of 1 / images
ROUNDING = 1e-6


def problems(
    run: Run, record: Record, curves: dict[str, Any], test_labels: np.ndarray | None
) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong). `test_labels` (N,) are None where the data are not at hand."""
    if record["status"] == "failed":
        return
    yield from _scores(record, None if test_labels is None else len(test_labels))
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


def _status(record: Record, curves: dict[str, Any], test_labels: np.ndarray | None) -> Iterator[tuple[str, str]]:
    """The verdict anew, from what the record holds; a loss's value for a single point is not known here."""
    history = curves.get("history")
    losses = history.get("loss") if isinstance(history, dict) else None
    losses = losses if isinstance(losses, list) else []  # what is no list is told by the rule of curves
    status, resolved, reason = record["status"], record["resolved"], record["reason"]
    collapsed = _collapse(record, curves, test_labels)
    if status == "ok" and collapsed:
        yield "status", f"{collapsed}, and the run is told to be ok"
    exploded = not all(map(is_number, losses)) or verdict.divergence(losses)
    if status == "diverged" and not (exploded or "diverged_at_step" in resolved or "stopped_at_step" in resolved):
        yield "status", "the run is told to have diverged, and its loss has not"
    by_loss = any(f"{loss:.4g}" in reason for loss in losses[-1:] if is_number(loss))
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
    return {name: value for name, value in values.items() if is_number(value)}
