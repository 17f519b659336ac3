"""Records for tests of tables and reports, written without training anything."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cl_semisup.results import protocol, records
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.run import Run

CLASSES = 10
VERSIONS = {"package": "0", "python": "3", "torch": "2", "machine": "m", "commit": "c", "clean": True, "data": "d"}


def run(loss: str = "nt_xent", repetition: int = 0, **changes: Any) -> Run:
    """A run on digits with 10 % of the labels; `changes` are other fields, and `params` the loss's settings."""
    params = changes.pop("params", {})
    fields: dict[str, Any] = {
        "dataset": {"digits": {}},
        "encoder": {"mlp": {"width": 16}},
        "loss": {loss: params},
        "label_fraction": 0.1,
        "labels_per_class": None,
        "learning_rate": 0.1,
        "batch_size": 64,
        "epochs": 5,
        "optimizer": {"sgd": {"momentum": 0.9}},
        "schedule": {"decay": "cosine"},
        "projector": {"dim": 8},
        "views": {"flip": 0.0},
        "probes": {"knn": {"k": 5}},
        "precision": "auto",
        "repetition": repetition,
    }
    return Run.from_dict(fields | changes)


def floor(of: Run) -> Run:
    return of.untrained()


def write(results: Path, run: Run, score: float = 0.5, status: str = "ok", **changes: Any) -> Path:
    """Write a record and return its path; `validation` is its validation score, by default the test score."""
    settings = protocol.settings(run, "data", changes.get("precision", "float32"))
    scores = {"linear_top1": score, "knn_top1": score / 2, "linear_top1_validation": changes.get("validation", score)}
    record = {
        "schema": records.SCHEMA,
        "id": run.id,
        "status": status,
        "reason": changes.get("reason", ""),
        "run": run.as_dict(),
        "resolved": {
            "classes": CLASSES,
            "device": changes.get("device", "cpu"),
            "precision": changes.get("precision", "float32"),
        },
        "scores": scores if status in ("ok", "collapsed") else {},
        "diagnostics": changes.get("diagnostics", {"effective_rank": 5.0}),
        "cost": {"train_seconds": changes.get("seconds", 2.0), **changes.get("cost", {})} if run.epochs else {},
        "protocol": {"fingerprint": protocol.fingerprint(settings), "settings": settings},
        "versions": {
            "plugins": changes.get("plugins", protocol.versions(run)),
            **VERSIONS,
            **changes.get("made", {}),
        },
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    path = records.path_of(results, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), "utf-8")
    if "curves" in changes:
        records.curves_path(path).write_text(json.dumps(changes["curves"]), "utf-8")
    return path


def curves(points: int = 60, plotted: int = 300, slope: float = 1.0) -> dict[str, Any]:
    """Curves, spectrum and embedding plot as large as those of a real run."""
    steps = list(range(points))
    history = {
        "step": steps,
        "loss": [5.0 * math.exp(-slope * s / points) for s in steps],
        "learning_rate": [0.1] * points,
        "gradient_norm": [1.0 / (1 + s) for s in steps],
        "effective_rank": [10.0 + s / 10 for s in steps],
    }
    angles = [slope + 0.37 * i for i in range(plotted)]
    picture = {
        "x": [round(math.cos(a) * (i % 7) / 7, 4) for i, a in enumerate(angles)],
        "y": [round(math.sin(a) * (i % 7) / 7, 4) for i, a in enumerate(angles)],
        "label": [i % CLASSES for i in range(plotted)],
    }
    return {"history": history, "singular_values": [8.0 / (1 + i) for i in range(64)], "picture": picture}


def select(runs: Iterable[Run], **changes: Any) -> SuiteSnapshot:
    """The snapshot of a suite with these runs, with nt_xent as the baseline."""
    suite = SuiteSnapshot("made", "suites/made.yaml", "Which is best?", "nt_xent", "linear_top1", "hash", tuple(runs))
    return replace(suite, **changes)


def grid(losses: Iterable[str], repetitions: int, **axes: Iterable[Any]) -> list[Run]:
    """Every combination of losses, repetitions and axes, floors included."""
    settings: list[dict[str, Any]] = [{}]
    for key, values in axes.items():
        settings = [one | {key: value} for one in settings for value in values]
    runs = [run(loss, repetition, **one) for loss in losses for repetition in range(repetitions) for one in settings]
    return [*{one.untrained().id: one.untrained() for one in runs}.values(), *runs]
