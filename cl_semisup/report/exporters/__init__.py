"""Records for other programs that show runs: one program a file, each with `write(runs, folder, suite)`.

Off unless asked for; what an exporter imports is an extra of the package. Everything comes from records, so a suite can
be exported at any time, also while it runs and on another machine, and again: what lies there already is replaced where
the program allows it.
"""

import importlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError
from cl_semisup.results import records
from cl_semisup.results.leaderboard import budget, flatten
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.run import Run


@dataclass(frozen=True)
class Exported:
    """One record in the terms that such programs share.

    Args:
        name: readable and unique, fit for a path
        settings: what was asked, flat: `loss.clop.weight` -> 1.0
        figures: `score/knn_top1`, `diagnostic/...`, `cost/...` at the end
        series: `training/loss` -> (step, value), finite values only
        seconds: since 1970, when the run started
    """

    id: str
    name: str
    loss: str
    status: str
    reason: str
    seconds: float
    settings: dict[str, str | int | float | bool]
    figures: dict[str, float]
    series: dict[str, list[tuple[int, float]]]

    @property
    def last_step(self) -> int:
        return max((step for points in self.series.values() for step, _ in points), default=0)


def export(to: str, results: Path, chosen: SuiteSnapshot, folder: Path) -> int:
    """Export the suite's runs that have a record; how many."""
    if importlib.util.find_spec(to) is None:
        remedy = f"Install it: pip install 'cl-semisup[{to}]'"
        raise InputError(f"export: needs the package {to}, which is not installed. {remedy}.")
    exporter: Any = importlib.import_module(f"cl_semisup.report.exporters.{to}")
    folder.mkdir(parents=True, exist_ok=True)
    written: int = exporter.write(read(results, chosen.runs), folder, chosen.name)
    return written


def read(results: Path, runs: Iterable[Run]) -> Iterator[Exported]:
    """The records of these runs, in the order of their names."""
    for run in sorted(runs, key=_name):
        path = records.path_of(results, run)
        if path.exists():
            yield _exported(run, records.read(path), records.read_curves(path))


def _exported(run: Run, record: records.Record, curves: dict[str, Any]) -> Exported:
    figures = {
        f"{kind}/{name}": float(value)
        for kind, part in (("score", "scores"), ("diagnostic", "diagnostics"), ("cost", "cost"))
        for name, value in sorted(record[part].items())
        if value is not None
    }
    asked = flatten(run.as_dict())
    settings = {
        key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in asked.items()
    }
    return Exported(
        id=run.id,
        name=_name(run),
        loss=run.loss_name,
        status=record["status"],
        reason=record["reason"],
        seconds=_seconds(record.get("started_at")),
        settings=settings,
        figures=figures,
        series=_series(curves.get("history")),
    )


def _name(run: Run) -> str:
    """`digits/clop/labels-10%-lr-0.1-batch-64-r-0-1b7e90c4a2d3`"""
    words = ["labels", budget(run).replace("/", "-per-")]
    if run.epochs:
        words += ["lr", f"{run.learning_rate:g}", "batch", str(run.batch_size)]
    return "/".join([run.dataset_name, run.loss_name, "-".join([*words, "r", str(run.repetition), run.id])])


def _series(history: Any) -> dict[str, list[tuple[int, float]]]:
    """The curves along training; a value that was not finite is null, and a stranger's file may hold anything."""
    if not isinstance(history, dict) or not isinstance(history.get("step"), list):
        return {}
    found = {}
    for name, values in sorted(history.items()):
        if name != "step" and isinstance(values, list):
            pairs = zip(history["step"], values, strict=False)
            points = [(int(s), float(v)) for s, v in pairs if _number(s) and _number(v)]
            if points:
                found[f"training/{name}"] = points
    return found


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= records.LARGEST


def _seconds(started: Any) -> float:
    try:
        return datetime.fromisoformat(started).timestamp()
    except (TypeError, ValueError):
        return 0.0
