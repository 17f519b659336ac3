"""`benchmark.py gate SUITE`: check against the stored reference, make a new one, or show its history."""

import json
import math
import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution.machine import default_workers
from cl_semisup.gate import check, ci, collapse, collapse_suite, execute, history, page, plan, reference
from cl_semisup.gate.gate_check import TIERS
from cl_semisup.gate.outcome import Execute
from cl_semisup.gate.result import GateResult
from cl_semisup.results import records
from cl_semisup.text import show


def run(options: Namespace) -> int:
    """The whole command; returns 0 for passed, 1 for changed (2 bad input and 3 no reference are raised)."""
    if options.update and not (options.reason or "").strip():
        raise InputError('--update: needs --reason "...", which is kept in the reference. Got none. Say why it moves.')
    if options.reason and not options.update:
        raise InputError("--reason: goes with --update. Got it alone. Add --update, or leave it out.")
    torch.set_num_threads(1)  # these trainings are so small that a second thread makes them slower
    if collapse_suite.is_collapse_suite(options.suite):
        return _run_collapse(options)
    path = options.reference or reference.default_path(options.suite)
    if options.history:
        return _show_history(path, options)
    gate_plan = plan.read(options.suite, options.data_dir)
    if options.update:
        return _update(gate_plan, path, options)
    stored = reference.read_for(gate_plan, path)
    execute_runs = _execute(options, gate_plan)
    result, current = check.run_checks(gate_plan, stored, execute_runs, options.tiers or TIERS, _show_tier)
    show(result.text())
    _write_files(options, result, result.as_dict(), lambda: page.of_result(result, stored.measurements, current))
    if os.environ.get("GITHUB_ACTIONS") == "true" and (annotations := ci.annotations(result)):
        show(annotations)
    return result.exit_code


def _run_collapse(options: Namespace) -> int:
    """A collapse suite is checked against assertions instead of a reference."""
    wrong = [f"--{name}" for name in ("update", "history", "reference", "tiers") if getattr(options, name)]
    if wrong:
        rule = "a suite of descents has claims and no reference"
        raise InputError(f"{options.suite}: {rule}. Got {wrong[0]}. Leave it out.")
    result = collapse.run(collapse_suite.read(options.suite))
    show(result.text())
    data = {"schema": 1, "claims": [_as_json(assertion) for assertion in result.assertions]}
    _write_files(options, result.gate_result(), data, result.html)
    return result.gate_result().exit_code


def _as_json(assertion: collapse.Assertion) -> dict[str, Any]:
    """Its fields; JSON has no NaN."""
    return asdict(assertion) | {"value": assertion.value if math.isfinite(assertion.value) else None}


def _write_files(options: Namespace, result: GateResult, data: dict[str, Any], html: Callable[[], str]) -> None:
    if options.json:
        records.write_text(options.json, json.dumps(data, indent=1, allow_nan=False) + "\n")
    if options.junit:
        records.write_text(options.junit, ci.junit(result))
    if options.html:
        records.write_text(options.html, html())


def _update(gate_plan: plan.Plan, path: Path, options: Namespace) -> int:
    """Measure all tiers and write a new reference; the history gets the reason and the number of changed checks."""
    if options.tiers:
        raise InputError("--tiers: a reference holds every tier. Got it with --update. Leave it out.")
    entries = reference.read_history(path)
    current = check.measure(gate_plan, _execute(options, gate_plan), show_tier=_show_tier)
    try:
        changed = check.count_changed(reference.read_for(gate_plan, path).measurements, current)
        comparison = f"{changed} checks moved since the one before"
    except (InputError, ResultsError):
        changed, comparison = 0, "nothing comparable before it"
    new = reference.make_reference(gate_plan, current, entries, reason=options.reason.strip(), changed=changed)
    reference.write(path, new)
    show(f"{path}: {len(gate_plan.cells)} losses, {len(gate_plan.runs)} runs; {comparison}.")
    return 0


def _show_history(path: Path, options: Namespace) -> int:
    series = history.all_series(reference.read(path).history)
    show(history.text(series))
    if options.html:
        records.write_text(options.html, page.of_history(f"History of {path.name}", series))
    return 0


def _execute(options: Namespace, gate_plan: plan.Plan) -> Execute:
    count = options.workers or default_workers("cpu")
    if count == 1 and not options.plugin:  # a user's own code may change what its process computes later
        return execute.in_process(gate_plan.suite.data_dir)
    return execute.in_workers(gate_plan.suite.data_dir, count, options.plugin)


def _show_tier(tier: str) -> None:
    show(f"{tier} ...", error=True)
