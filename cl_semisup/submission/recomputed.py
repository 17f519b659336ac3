"""What a record says beside its scores follows from its settings, its data and its curves: computed here once more.

A forger must then change all of these together, and what remains is for runs that are done again (rerun.py).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from cl_semisup import losses, plugins
from cl_semisup.data import labels
from cl_semisup.evaluation import PROJECTION, VALIDATION
from cl_semisup.execution.collapsed_loss import collapsed_loss_value
from cl_semisup.measures.geometry import effective_count
from cl_semisup.results import diagnostic_ranges, protocol, right_images, verdict
from cl_semisup.results.records import Record
from cl_semisup.suite.run import Run
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training.curves import LOGGED_POINTS
from cl_semisup.training.schedule import lr_factor, scaled_learning_rate

ROUNDING = 1e-5  # of float32, in relative terms
SPECTRUM_ROUNDING = 2e-3  # singular values are kept with four digits
TOP1 = {"knn_top1", "linear_top1"}
HISTORY_RANGES = {"feature_std": (0.0, 1.0), "alignment": (0.0, 4.0), "gradient_norm": (0.0, math.inf)}


def problems(run: Run, record: Record, curves: dict[str, Any], images: Any) -> Iterator[tuple[str, str]]:
    """(rule, what is wrong). `images` are the run's data set, None where it is not at hand."""
    if record["status"] == "failed":
        return
    if images is not None and images.fold is None and np.ndim(images.train_labels) == 1:
        yield from _images(run, record, curves, images)
    if run.epochs and run.scenario is None:
        yield from _schedule(run, record, curves)
    if record["status"] == "ok":
        yield from _scores(run, record, curves)
        if record["reason"] or "stopped_at_step" in record["resolved"]:
            yield "status", "a run that ended ok has no reason to end, and does not stop before its last step"
    known = images is not None and np.ndim(images.test_labels) == 1
    yield from _geometry(record, curves, len(images.test_labels) if known else 0)


def _images(run: Run, record: Record, curves: dict[str, Any], images: Any) -> Iterator[tuple[str, str]]:
    """Numbers of images and classes, and the true labels of the embedding plot."""
    settings = dict(record["run"])
    if run.validation == "held_out" and images.val_labels is not None:
        del settings["validation"]  # the data's own validation part is held out
    drawn = labels.of_run(images.train_labels, settings)
    expected = {"classes": images.classes, "labelled_images": int((drawn.visible_labels >= 0).sum())}
    if run.unlabelled_from is None:
        expected["train_images"] = len(drawn.indices)
    choosing = images.val_labels if images.val_labels is not None and run.validation != "labelled" else drawn.held_out
    if len(choosing) or "validation_images" in record["resolved"]:
        expected["validation_images"] = len(choosing)
        yield from _validation(record, len(choosing))
    for name, value in expected.items():
        if (recorded := record["resolved"].get(name)) != value:
            yield "facts", f"{name} is {recorded!r}, and {value} in the data"
    if run.epochs and run.scenario is None and run.unlabelled_from is None:
        yield from _one_point(run, record, curves, torch.from_numpy(drawn.visible_labels), images.classes)
    plot = curves.get("picture")
    shown = plot.get("label") if isinstance(plot, dict) else None
    if isinstance(shown, list) and shown != images.test_labels[: len(shown)].tolist():
        yield "curves", "the labels of the embedding plot are not those of the test images"


def _validation(record: Record, images: int) -> Iterator[tuple[str, str]]:
    """Accuracies on the validation images are shares of them."""
    for name, value in record["scores"].items():
        if name.endswith(VALIDATION) and name.removeprefix(PROJECTION).partition("_top1")[0] in ("knn", "linear"):
            count = value * images
            if abs(count - round(count)) > ROUNDING * images:
                yield "scores", f"{name} is {value!r}, which no share of {images} validation images is"


def _one_point(
    run: Run, record: Record, curves: dict[str, Any], visible_labels: torch.Tensor, classes: int
) -> Iterator[tuple[str, str]]:
    """Does the curve of losses end at the loss's value for a single point, and does the record say so?"""
    ((name, settings),) = run.loss.items()
    projector, spectrum = Projector(**run.projector), curves.get("singular_values")
    dim = projector.dim if projector.layers else len(spectrum) if isinstance(spectrum, list) else 0
    history = curves.get("history")
    values = history.get("loss") if isinstance(history, dict) else None
    if not dim or protocol.uses_users_own([run]) or not isinstance(values, list) or not values:
        return
    loss = losses.build(name, dim=dim, classes=classes, images=len(visible_labels), **settings)
    if isinstance(loss, torch.nn.Module) or type(values[-1]) is not float:  # it learns, so its value has moved
        return
    why = verdict.stuck(values[-1:], collapsed_loss_value(loss, visible_labels, run.batch_size or 0, dim, classes))
    if record["status"] == "ok" and why:
        yield "status", f"{why}, and the run is told to be ok"
    elif record["status"] == "collapsed" and record["reason"].startswith("the loss ends at") and not why:
        yield "status", "the run is told to have collapsed, and neither its embeddings nor its loss say so"


def _schedule(run: Run, record: Record, curves: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Steps, learning rates, and the steps at which curves have a point."""
    resolved, history = record["resolved"], curves.get("history")
    assert run.batch_size is not None
    assert run.learning_rate is not None
    schedule = Schedule(**(run.schedule or {}))
    rate = scaled_learning_rate(run.learning_rate, run.batch_size, schedule)
    if not _near(resolved.get("effective_learning_rate"), rate):
        yield (
            "facts",
            f"effective_learning_rate is {resolved.get('effective_learning_rate')!r}, and {rate:.6g} by the run",
        )
    images = resolved.get("train_images")
    each = images // run.batch_size if type(images) is int else 0
    steps = run.epochs * each
    if resolved.get("steps") != steps:
        yield "facts", f"steps is {resolved.get('steps')!r}, and {steps} by epochs, images and batch size"
        return
    if not isinstance(history, dict) or not isinstance(history.get("step"), list):
        return  # told by plausibility.py
    every = max(1, steps // LOGGED_POINTS)
    logged = [step for step in range(steps) if (step + 1) % every == 0 or step == steps - 1]
    at, rates = history["step"], history.get("learning_rate")
    if at != logged[: len(at)] or (record["status"] == "ok" and len(at) < len(logged)):
        yield "curves", f"a training of {steps} steps has its points at other steps"
    elif not isinstance(rates, list) or not all(
        _near(recorded, rate * lr_factor(step, steps, each, schedule))
        for step, recorded in zip(at, rates, strict=False)
    ):
        yield "curves", "the learning rates are not those of the schedule"


def _scores(run: Run, record: Record, curves: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each probe's scores, no others, and as many test images right as each score says."""
    recorded, own = record["scores"], [name for name in run.probes if plugins.is_users_own("evaluation", name)]
    loaded: list[Any] = [plugins.load("evaluation", name) for name in run.probes.keys() - own]
    declared = {score for probe in loaded for score in probe.scores}
    if not own:  # these say their scores only when they are run
        unknown = [name for name in sorted(recorded) if not {name, name.removesuffix("_validation")} & declared]
        yield from (("scores", f"{name}: no probe of the run gives it") for name in unknown)
    yield from (("scores", f"{name}: is missing") for name in sorted(declared & TOP1 - recorded.keys()))
    for name, value in recorded.items():
        right = right_images.unpack(curves.get("right"), name)
        if right is not None and not _near(value, float(right.mean())):
            yield "scores", f"{name} is {value!r}, and {float(right.mean()):.6g} by the test images that are right"


def _geometry(record: Record, curves: dict[str, Any], images: int) -> Iterator[tuple[str, str]]:
    """Ranges of diagnostics and curves, and what the singular values give. `images`: of the test part, or 0."""
    diagnostics, history, values = record["diagnostics"], curves.get("history"), curves.get("singular_values")
    if wrong := diagnostic_ranges.problem(diagnostics, ROUNDING):
        yield "diagnostics", wrong
    for name, (least, most) in HISTORY_RANGES.items():
        points = history.get(name) if isinstance(history, dict) else None
        for recorded in points if isinstance(points, list) else []:
            if type(recorded) is float and not least - ROUNDING <= recorded <= most + ROUNDING:
                yield "curves", f"{name} reaches {recorded!r}, outside of [{least:g}, {most:g}]"
                break
    if values is None:
        return
    if not isinstance(values, list) or not all(type(v) in (int, float) and 0 <= v < math.inf for v in values):
        yield "curves", "singular values are numbers from 0 on"
    elif values != sorted(values, reverse=True):
        yield "curves", "the singular values do not fall"
    elif images and sum(v * v for v in values) > images * (1 + SPECTRUM_ROUNDING):  # less with rows of zeros
        yield "curves", f"the squared singular values of {images} unit rows add up to {sum(v * v for v in values):.5g}"
    elif "effective_rank" in diagnostics and not _near(diagnostics["effective_rank"], _rank(values), SPECTRUM_ROUNDING):
        rank = diagnostics["effective_rank"]
        yield "diagnostics", f"effective_rank is {rank!r}, and {_rank(values):.5g} by the singular values"


def _rank(values: list[float]) -> float:
    return float(effective_count(torch.tensor(values, dtype=torch.float64)))


def _near(recorded: Any, expected: float, tolerance: float = ROUNDING) -> bool:
    return type(recorded) in (int, float) and math.isclose(recorded, expected, rel_tol=tolerance, abs_tol=1e-9)
