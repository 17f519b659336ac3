"""The stored reference: one JSON file beside the suite, a line a training step, so that a diff shows which step moved.

schema, recipe    of this file, and of the fixed inputs and the arithmetic of the tiers
suite, asked      the suite's name and the hash of what it says
made              date, commit, versions and machine
plugins           version of every plug-in file behind the suite
history           every update: date, commit, reason, how many checks moved, and the figures of each loss
function, free, trajectory, outcome    what was measured, by loss
"""

import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_semisup.errors import ResultsError
from cl_semisup.execution import execute
from cl_semisup.gate import outcome
from cl_semisup.gate.function import Values
from cl_semisup.gate.outcome import Outcomes
from cl_semisup.gate.plan import Plan
from cl_semisup.gate.trajectory import Trajectory
from cl_semisup.results import protocol, records
from cl_semisup.suite import renamed

SCHEMA = 1
RECIPE = 1  # raised whenever fixed inputs, horizon or kept quantities change: older references then say nothing
ROW = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")


@dataclass
class ProbeResult:
    """What the tiers measured, by loss; a tier that was not run is empty."""

    function: dict[str, Values] = field(default_factory=dict)
    free: dict[str, Trajectory] = field(default_factory=dict)
    trajectory: dict[str, dict[str, Trajectory]] = field(default_factory=dict)
    outcome: Outcomes = field(default_factory=dict)


@dataclass
class Reference:
    """A stored measurement and where it comes from."""

    suite: str
    asked: str
    made: dict[str, Any]
    plugins: dict[str, str]
    history: list[dict[str, Any]]
    measured: ProbeResult


def path_of(suite: Path) -> Path:
    """Where the reference of a suite lies unless told otherwise: beside it."""
    return suite.with_suffix(".reference.json")


def now(plan: Plan, measured: ProbeResult, history: list[dict[str, Any]], *, reason: str, moved: int) -> Reference:
    """A new reference that carries on a history; `moved` checks differ from the reference before."""
    made = made_with()
    entry = {"at": made["at"], "commit": made["commit"], "torch": made["torch"], "reason": reason, "moved": moved}
    entry["figures"] = {loss: figures(measured, loss, plan.suite.score) for loss in plan.cells}
    return Reference(plan.suite.name, plan.asked, made, plan.versions, [*history, entry], measured)


def figures(measured: ProbeResult, loss: str, score: str) -> dict[str, list[float]]:
    """What a history follows of a loss: name -> [figure, its standard error]."""
    found: dict[str, list[float]] = {}
    value = measured.function.get(loss, {}).get("some labels", [None])[0]
    if value is not None:
        found["value"] = [value, 0.0]
    steps = measured.free[loss].steps if loss in measured.free else []
    if steps and steps[-1][0] is not None:
        found["loss after free descent"] = [steps[-1][0], 0.0]
    runs = [run for of in measured.outcome.get(loss, {}).values() for run in of]
    scores = [run["scores"][score] for run in runs if score in run["scores"]]
    if scores:
        error = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
        found[score] = [float(np.mean(scores)), error]
    if runs:
        found["largest stable learning rate"] = [outcome.largest_stable(measured.outcome[loss]), 0.0]
    return {name: [float(f"{v:.6g}") for v in pair] for name, pair in found.items()}


def made_with() -> dict[str, Any]:
    """When, from which code, on what."""
    versions = execute.environment()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **versions,
        "numpy": np.__version__,
        "system": platform.system(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "protocol": protocol.VERSION,
        "seeds": "inputs: numpy RandomState 7 and 8; runs: named by data set and repetition",
    }


def write(path: Path, reference: Reference) -> None:
    """The whole reference, atomically."""
    measured = reference.measured
    stored = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "suite": reference.suite,
        "asked": reference.asked,
        "made": reference.made,
        "plugins": reference.plugins,
        "history": reference.history,
        "function": measured.function,
        "free": {loss: trajectory.steps for loss, trajectory in measured.free.items()},
        "trajectory": {
            loss: {cell: {"steps": t.steps, "end": t.end} for cell, t in of.items()}
            for loss, of in measured.trajectory.items()
        },
        "outcome": {loss: {cell: columns(runs) for cell, runs in of.items()} for loss, of in measured.outcome.items()},
    }
    write_rows(path, stored)


def write_rows(path: Path, stored: dict[str, Any]) -> None:
    """JSON with every innermost list on one line, so that a diff shows the row that moved."""
    text = json.dumps(stored, indent=1, allow_nan=False, ensure_ascii=False)
    records.write_text(path, ROW.sub(lambda row: "[" + " ".join(row[1].split()) + "]", text) + "\n")


def read(path: Path) -> Reference:
    """A stored reference, or ResultsError that says why there is none and what to do."""
    try:
        stored = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path}: no reference there. {_make()}") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: must be a reference in JSON: {error}. {_make()}") from None
    try:
        if (stored["schema"], stored["recipe"]) != (SCHEMA, RECIPE):
            rule = f"must have schema {SCHEMA} and recipe {RECIPE}"
            raise ResultsError(f"{path}: {rule}. Got {stored['schema']} and {stored['recipe']}. {_make()}")
        measured = ProbeResult(
            stored["function"],
            {loss: Trajectory(steps) for loss, steps in stored["free"].items()},
            {
                loss: {cell: Trajectory(t["steps"], renamed.upgrade_measures(t["end"])) for cell, t in of.items()}
                for loss, of in stored["trajectory"].items()
            },
            {loss: {cell: _rows(runs) for cell, runs in of.items()} for loss, of in stored["outcome"].items()},
        )
        keys = ("suite", "asked", "made", "plugins", "history")
        return Reference(**{key: stored[key] for key in keys}, measured=measured)
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: must be a reference: {error!r} is missing or wrong. {_make()}") from None


def history(path: Path) -> list[dict[str, Any]]:
    """The history of whatever reference lies there, also of an older recipe; [] where there is none."""
    try:
        return list(json.loads(path.read_text("utf-8"))["history"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        raise ResultsError(f"{path}: must be a reference, to carry on its history. Delete it to start anew.") from None


def of(plan: Plan, path: Path) -> Reference:
    """The reference of a plan; one of another suite or protocol is refused."""
    reference = read(path)
    if reference.asked != plan.asked:
        rule = f"must be made from the suite as it is: {plan.suite.file} has changed since"
        raise ResultsError(f"{path}: {rule} {reference.made.get('at', '')}. {_make()}")
    if reference.made.get("protocol") != protocol.VERSION:
        rule = f"must be of protocol {protocol.VERSION}"
        raise ResultsError(f"{path}: {rule}. Got {reference.made.get('protocol')}. {_make()}")
    return reference


def columns(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs of a cell, one list a quantity."""
    names = sorted({name for run in runs for name in run["scores"]})
    scores = {name: [run["scores"].get(name) for run in runs] for name in names}
    return {"status": [run["status"] for run in runs], "loss": [run["loss"] for run in runs], "scores": scores}


def _rows(stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"status": status, "loss": loss, "scores": {n: v[i] for n, v in stored["scores"].items() if v[i] is not None}}
        for i, (status, loss) in enumerate(zip(stored["status"], stored["loss"], strict=True))
    ]


def _make() -> str:
    return 'Make one with --update --reason "..."'
