"""Export of records to other programs that show runs: one program a file, each with `write(runs, folder, suite)`
and `OPENS`, the names in the folder that the program opens itself.

An exporter's dependencies are an extra of the package. Everything comes from records, so a suite can be exported at any
time, on any machine, and again: existing files are replaced if the program allows it.
"""

import importlib
import importlib.util
import json
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cl_semisup.errors import InputError, ResultsError, described
from cl_semisup.results import records
from cl_semisup.results.naming import budget, flatten
from cl_semisup.results.numbers import is_number
from cl_semisup.results.snapshot import SuiteSnapshot
from cl_semisup.suite.run import Run
from cl_semisup.system import files

MAX_CAUSE = 300  # characters of a program's error


@dataclass(frozen=True)
class ExportedRun:
    """One record in the form that these programs share.

    Args:
        name: readable, unique and valid as a path
        settings: of the run, flat: `loss.clop.weight` -> 1.0
        metrics: `score/knn_top1`, `diagnostic/...`, `cost/...` at the end
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
    metrics: dict[str, float]
    series: dict[str, list[tuple[int, float]]]

    @property
    def last_step(self) -> int:
        return max((step for points in self.series.values() for step, _ in points), default=0)


def export(to: str, results: Path, suite: SuiteSnapshot, folder: Path) -> int:
    """Export the suite's runs that have a record; return their number."""
    exporter = load(to)
    prepare(exporter, folder, folder)
    try:
        written: int = exporter.write(read(results, suite.runs), folder, suite.name)
    except (InputError, ResultsError, OSError):
        raise
    except Exception as error:  # of the program, which finds a damaged file of its own for instance
        cause = described(error).splitlines()[0][:MAX_CAUSE]
        rule = f"{to} must be able to write there"
        raise ResultsError(f"{folder}: {rule}. Got {cause}. Name another folder.") from error
    return written


def prepare(exporter: Any, root: Path, folder: Path) -> None:
    """Make the folder, through no link below `root`; InputError where the program would be led elsewhere or wait.

    A program follows links and waits for pipes. So what it opens itself, which begins with one of the names in its
    `OPENS`, is a regular file or a folder, or not there yet.
    """
    try:
        files.make_folder(root, folder)
    except OSError as error:
        rule = "runs must be written to a folder behind no link"
        raise InputError(f"{folder}: {rule}. Got {files.reason(error)}. Name another folder, or remove it.") from None
    for path in files.entries(folder, folder):
        mode = path.lstat().st_mode
        if path.name.startswith(exporter.OPENS) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{path}: must be a file or a folder of its own. Got a link or a special file. Remove it.")


def load(to: str) -> Any:
    """The module of a program's exporter; InputError if its package is missing."""
    require(to)
    return importlib.import_module(f"cl_semisup.report.exporters.{to}")


def require(to: str) -> None:
    """InputError if a program's package is missing."""
    if importlib.util.find_spec(to) is None:
        remedy = f"Install it: pip install 'cl-semisup[{to}]'"
        raise InputError(f"export: needs the package {to}, which is not installed. {remedy}.")


def read(results: Path, runs: Iterable[Run]) -> Iterator[ExportedRun]:
    """The records of these runs, sorted by name."""
    for run in sorted(runs, key=_name):
        path = records.path_of(results, run)
        if records.exists(path):
            yield _exported(run, records.read(path), records.read_curves(path))


def _exported(run: Run, record: records.Record, curves: dict[str, Any]) -> ExportedRun:
    metrics = {
        f"{kind}/{name}": float(value)
        for kind, part in (("score", "scores"), ("diagnostic", "diagnostics"), ("cost", "cost"))
        for name, value in sorted(record[part].items())
        if value is not None
    }
    settings = {
        key: value if isinstance(value, str | int | float) else json.dumps(value)
        for key, value in flatten(run.settings()).items()
    }
    return ExportedRun(
        id=run.id,
        name=_name(run),
        loss=run.loss_name,
        status=record["status"],
        reason=record["reason"],
        seconds=_seconds(record.get("started_at")),
        settings=settings,
        metrics=metrics,
        series=_series(curves.get("history")),
    )


def _name(run: Run) -> str:
    """`digits/clop/labels-10%-lr-0.1-batch-64-r-0-1b7e90c4a2d3`"""
    parts = ["labels", budget(run).replace("/", "-per-")]
    if run.epochs:
        parts += ["lr", f"{run.learning_rate:g}", "batch", str(run.batch_size)]
    return "/".join([run.dataset_name, run.loss_name, "-".join([*parts, "r", str(run.repetition), run.id])])


def _series(history: Any) -> dict[str, list[tuple[int, float]]]:
    """The curves along training without the values that are no finite numbers; a stranger's file may hold anything."""
    if not isinstance(history, dict) or not isinstance(history.get("step"), list):
        return {}
    series = {}
    for name, values in sorted(history.items()):
        if name != "step" and isinstance(values, list):
            pairs = zip(history["step"], values, strict=False)
            points = [(int(s), float(v)) for s, v in pairs if is_number(s) and is_number(v)]
            if points:
                series[f"training/{name}"] = points
    return series


def _seconds(started: Any) -> float:
    try:
        return datetime.fromisoformat(started).timestamp()
    except (TypeError, ValueError):
        return 0.0
