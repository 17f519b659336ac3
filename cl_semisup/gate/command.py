"""`benchmark.py gate SUITE`: check against the stored reference, make a new one, or show its history."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch

from cl_semisup.errors import InputError, ResultsError
from cl_semisup.execution.machine import default_workers
from cl_semisup.gate import check, ci, collapse, execute, history, page, plan, reference
from cl_semisup.gate.finding import TIERS
from cl_semisup.gate.outcome import Execute
from cl_semisup.results import records


def run(options: Namespace) -> int:
    """The whole command; its exit code: 0 passed, 1 moved (2 bad input and 3 no reference are raised)."""
    if options.update and not (options.reason or "").strip():
        raise InputError('--update: needs --reason "...", which is kept in the reference. Got none. Say why it moves.')
    if options.reason and not options.update:
        raise InputError("--reason: goes with --update. Got it alone. Add --update, or leave it out.")
    torch.set_num_threads(1)  # what is trained here is so small that a second thread costs more than it gives
    if collapse.is_one(options.suite):
        return _collapse(options)
    path = options.reference or reference.path_of(options.suite)
    if options.history:
        return _history(path, options)
    asked = plan.read(options.suite, options.data_dir)
    if options.update:
        return _update(asked, path, options)
    stored = reference.of(asked, path)
    verdict, measured = check.check(asked, stored, _execute(options, asked), options.tiers or TIERS, _tell)
    print(verdict.text())
    if options.json:
        records.write_text(options.json, json.dumps(verdict.as_dict(), indent=1, allow_nan=False) + "\n")
    if options.junit:
        records.write_text(options.junit, ci.junit(verdict))
    if options.html:
        records.write_text(options.html, page.of_verdict(verdict, stored.measured, measured))
    if os.environ.get("GITHUB_ACTIONS") == "true" and (said := ci.annotations(verdict)):
        print(said)
    return verdict.exit_code


def _collapse(options: Namespace) -> int:
    """A suite of descents: its claims are its reference."""
    given = [f"--{name}" for name in ("update", "history", "reference", "tiers") if getattr(options, name)]
    if given:
        rule = "a suite of descents has claims and no reference"
        raise InputError(f"{options.suite}: {rule}. Got {given[0]}. Leave it out.")
    result = collapse.run(collapse.read(options.suite))
    print(result.text())
    if options.json:
        claims = [asdict(claim) for claim in result.claims]
        records.write_text(options.json, json.dumps({"schema": 1, "claims": claims}, indent=1, allow_nan=False) + "\n")
    if options.junit:
        records.write_text(options.junit, ci.junit(result.verdict()))
    if options.html:
        records.write_text(options.html, result.html())
    return result.verdict().exit_code


def _update(asked: plan.Plan, path: Path, options: Namespace) -> int:
    """Measure everything anew; how much moved since the reference before goes into the history with the reason."""
    if options.tiers:
        raise InputError("--tiers: a reference holds every tier. Got it with --update. Leave it out.")
    carried = reference.history(path)
    measured = check.measure(asked, _execute(options, asked), tell=_tell)
    try:
        moved = check.moved(reference.of(asked, path).measured, measured)
        said = f"{moved} checks moved since the one before"
    except ResultsError:
        moved, said = 0, "nothing comparable before it"
    reference.write(path, reference.now(asked, measured, carried, reason=options.reason.strip(), moved=moved))
    print(f"{path}: {len(asked.cells)} losses, {len(asked.runs)} runs; {said}.")
    return 0


def _history(path: Path, options: Namespace) -> int:
    found = history.series(reference.read(path).history)
    print(history.text(found))
    if options.html:
        records.write_text(options.html, page.of_history(f"History of {path.name}", found))
    return 0


def _execute(options: Namespace, asked: plan.Plan) -> Execute:
    count = options.workers or default_workers("cpu")
    if count == 1:
        return execute.here(asked.suite.data_dir)
    return execute.workers(asked.suite.data_dir, count, options.plugin)


def _tell(tier: str) -> None:
    print(f"{tier} ...", file=sys.stderr, flush=True)
