"""The stored reference: one JSON file beside the suite, with one line for each training step, for readable diffs.

sha256            hash of all else in the file
schema, recipe    versions of the file format, and of the fixed inputs and the arithmetic of the tiers
suite, asked      the suite's name and hash
made              date, commit, versions and machine
plugins           version of every plug-in file that the suite uses
history           every update: date, commit, reason, number of changed checks, and the metrics of each loss
function, free, trajectory, outcome    measurements of the tiers by loss; `free` is the descent of free embeddings
"""

import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution.environment import environment
from cl_semisup.gate import outcome, stored
from cl_semisup.gate.function import Values
from cl_semisup.gate.outcome import RunSummaries, RunSummary
from cl_semisup.gate.plan import Plan
from cl_semisup.gate.trajectory import Trajectory
from cl_semisup.results import protocol, records
from cl_semisup.system import files, installation

SCHEMA = 1
KEYS = ("suite", "asked", "made", "plugins", "history")  # of the first fields of a Reference, in their order
RECIPE = 1  # to be raised when fixed inputs, number of steps or stored quantities change: older references are invalid
HOW_TO_MAKE = 'Make one with --update --reason "..."'
ROW = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")


@dataclass
class Measurements:
    """Measurements of the tiers by loss; a tier that was not run is empty."""

    function: dict[str, Values] = field(default_factory=dict)
    embedding_descent: dict[str, Trajectory] = field(default_factory=dict)
    trajectory: dict[str, dict[str, Trajectory]] = field(default_factory=dict)
    outcome: RunSummaries = field(default_factory=dict)


@dataclass
class Reference:
    """Stored measurements and their origin; the module's docstring describes the fields."""

    suite: str
    suite_hash: str
    provenance: dict[str, Any]
    plugin_versions: dict[str, str]
    history: list[dict[str, Any]]
    measurements: Measurements


def default_path(suite: Path) -> Path:
    """The reference beside the suite's file."""
    return installation.locate(suite).with_suffix(".reference.json")


def make_reference(
    plan: Plan, measurements: Measurements, history: list[dict[str, Any]], *, reason: str, changed: int
) -> Reference:
    """A new reference that continues a history; `changed` checks differ from the previous reference."""
    made = provenance()
    entry = {"at": made["at"], "commit": made["commit"], "torch": made["torch"], "reason": reason, "moved": changed}
    entry["figures"] = {loss: tracked_metrics(measurements, loss, plan.suite.score) for loss in plan.cells}
    history = [*history, entry]
    return Reference(plan.suite.name, plan.suite_hash, made, plan.plugin_versions, history, measurements)


def tracked_metrics(measurements: Measurements, loss: str, score: str) -> dict[str, list[float]]:
    """The metrics of a loss that the history shows: name -> [value, standard error]."""
    metrics: dict[str, list[float]] = {}
    value = measurements.function.get(loss, {}).get("some labels", [None])[0]
    if value is not None:
        metrics["value"] = [value, 0.0]
    steps = measurements.embedding_descent[loss].steps if loss in measurements.embedding_descent else []
    if steps and steps[-1][0] is not None:
        metrics["loss after free descent"] = [steps[-1][0], 0.0]
    runs = [run for cell_runs in measurements.outcome.get(loss, {}).values() for run in cell_runs]
    scores = [run["scores"][score] for run in runs if score in run["scores"]]
    if scores:
        error = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
        metrics[score] = [float(np.mean(scores)), error]
    if runs:
        metrics["largest stable learning rate"] = [outcome.largest_stable_rate(measurements.outcome[loss]), 0.0]
    return {name: [float(f"{number:.6g}") for number in pair] for name, pair in metrics.items()}


def provenance() -> dict[str, Any]:
    """Date, commit, versions and machine of this process."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
        "numpy": np.__version__,
        "system": platform.system(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "protocol": protocol.VERSION,
        "seeds": "inputs: numpy RandomState 7 and 8; runs: named by data set and repetition",
    }


def write(path: Path, reference: Reference) -> None:
    """The whole reference, atomically."""
    measurements = reference.measurements
    content = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        **dict(zip(KEYS, vars(reference).values(), strict=False)),
        "function": measurements.function,
        "free": {loss: descent.steps for loss, descent in measurements.embedding_descent.items()},
        "trajectory": _map_cells(measurements.trajectory, vars),
        "outcome": _map_cells(measurements.outcome, _to_columns),
    }
    write_rows(path, content)


def write_rows(path: Path, content: dict[str, Any]) -> None:
    """JSON with every innermost list on one line, for readable diffs, and with its hash."""
    text = json.dumps(stored.sealed(content), indent=1, allow_nan=False, ensure_ascii=False)
    records.write_text(path, ROW.sub(lambda row: "[" + " ".join(row[1].split()) + "]", text) + "\n")


def read(path: Path) -> Reference:
    """A stored reference. ResultsError if there is none of this schema; InputError, with its place, for damage."""
    content = _load(path)
    try:
        stored.mapping(stored.anything, schema=stored.count, recipe=stored.count)(content, "")
        if (content["schema"], content["recipe"]) != (SCHEMA, RECIPE):
            rule = f"must have schema {SCHEMA} and recipe {RECIPE}"
            raise ResultsError(f"{path}: {rule}. Got {content['schema']} and {content['recipe']}. {HOW_TO_MAKE}")
        stored.REFERENCE(content, "")
        stored.require_seal(content)
    except ValueError as error:
        raise InputError(f"{path}: {error}. {HOW_TO_MAKE}") from None
    measurements = Measurements(
        content["function"],
        {loss: Trajectory(steps) for loss, steps in content["free"].items()},
        _map_cells(content["trajectory"], lambda t: Trajectory(t["steps"], t["end"])),
        _map_cells(content["outcome"], _from_columns),
    )
    suite, suite_hash, made, versions, entries = (content[key] for key in KEYS)
    return Reference(suite, suite_hash, made, versions, entries, measurements)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The history of a reference, also of an older recipe; [] if there is no file."""
    if not os.path.lexists(path):
        return []
    try:
        content = _load(path)
        stored.mapping(stored.anything, history=stored.HISTORY)(content, "")
    except ValueError as error:
        raise InputError(f"{error} It carries the history on: delete it to start anew.") from None
    return list(content["history"])


def _load(path: Path) -> Any:
    try:
        return stored.read(path)
    except FileNotFoundError:
        raise ResultsError(f"{path}: no reference there. {HOW_TO_MAKE}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: must be a reference in JSON: {files.reason(error)}. {HOW_TO_MAKE}") from None


def read_for(plan: Plan, path: Path) -> Reference:
    """The reference of a plan; raises ResultsError if it is of another suite or protocol."""
    reference = read(path)
    made = reference.provenance
    if reference.suite_hash != plan.suite_hash:
        rule = f"must be made from the suite as it is: {plan.suite.file} has changed since"
        raise ResultsError(f"{path}: {rule} {made.get('at', '')}. {HOW_TO_MAKE}")
    if made.get("protocol") != protocol.VERSION:
        rule = f"must be of protocol {protocol.VERSION}"
        raise ResultsError(f"{path}: {rule}. Got {made.get('protocol')}. {HOW_TO_MAKE}")
    return reference


def _map_cells(losses: Mapping[str, Mapping[str, Any]], function: Callable[[Any], Any]) -> dict[str, dict[str, Any]]:
    """Applies a function to the value of every cell of every loss."""
    return {loss: {cell: function(value) for cell, value in cells.items()} for loss, cells in losses.items()}


def _to_columns(runs: list[RunSummary]) -> dict[str, Any]:
    """One list for each quantity, over the runs of a cell."""
    names = sorted({name for run in runs for name in run["scores"]})
    scores = {name: [run["scores"].get(name) for run in runs] for name in names}
    return {"status": [run["status"] for run in runs], "loss": [run["loss"] for run in runs], "scores": scores}


def _from_columns(columns: Mapping[str, Any]) -> list[RunSummary]:
    scores = columns["scores"]
    return [
        {"status": status, "loss": loss, "scores": {name: v[i] for name, v in scores.items() if v[i] is not None}}
        for i, (status, loss) in enumerate(zip(columns["status"], columns["loss"], strict=True))
    ]
