"""One run of the gate: measure the tiers, cheapest first, and compare each with the reference."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from cl_semisup.gate import function, outcome, trajectory
from cl_semisup.gate.gate_check import CHANGED, TIERS, GateCheck
from cl_semisup.gate.outcome import Execute
from cl_semisup.gate.plan import Plan
from cl_semisup.gate.reference import Measurements, Reference, provenance
from cl_semisup.gate.result import GateResult
from cl_semisup.gate.trajectory import FREE_EMBEDDINGS, PERTURBATION, FirstSteps, Trajectory
from cl_semisup.results import protocol

ShowTier = Callable[[str], None]


def measure(plan: Plan, execute: Execute, tiers: Sequence[str] = TIERS, show_tier: ShowTier = print) -> Measurements:
    """The measurements of a new reference; trajectories are cut to their predictable steps."""
    measurements = Measurements()
    for tier in tiers:
        show_tier(tier)
        if tier == "outcome":
            repetitions = max(len(runs) for cells in plan.cells.values() for runs in cells.values())
            measurements.outcome = outcome.measure(plan.cells, execute, 0, repetitions)
        else:
            _measure_exact(plan, tier, measurements, perturb=True)
    return measurements


def run_checks(
    plan: Plan, reference: Reference, execute: Execute, tiers: Sequence[str] = TIERS, show_tier: ShowTier = print
) -> tuple[GateResult, Measurements]:
    """The gate's result, and the measurements behind it."""
    stored, current, seconds = reference.measurements, Measurements(), {}
    checks: list[GateCheck] = []
    for tier in [tier for tier in TIERS if tier in tiers]:
        show_tier(tier)
        began = time.perf_counter()
        if tier != "outcome":
            _measure_exact(plan, tier, current)
            compare = _compare_function if tier == "function" else _compare_trajectories
            checks += [check for loss in plan.cells for check in compare(loss, stored, current)]
        else:
            checks += _missing_outcomes(plan, stored)
            if stored.outcome:
                outcome_checks, current.outcome = outcome.run_checks(plan.cells, stored.outcome, execute)
                checks += outcome_checks
        seconds[tier] = time.perf_counter() - began
    version_changes, loss_file_changed = _version_changes(plan, reference)
    description = _describe(reference)
    return GateResult(plan.suite.file, tuple(checks), description, version_changes, loss_file_changed, seconds), current


def _measure_exact(plan: Plan, tier: str, measurements: Measurements, perturb: bool = False) -> None:
    """Adds the measurements of an exact tier; with `perturb` trajectories are cut to their predictable steps."""
    if tier == "function":
        measurements.function = {loss: function.measure(plan.build_loss(loss)) for loss in plan.cells}
    else:
        descend = trajectory.predictable_descent if perturb else trajectory.embedding_descent
        measurements.embedding_descent = {loss: descend(plan.build_loss(loss)) for loss in plan.cells}
        measurements.trajectory = _trajectories(plan, perturb)


def _trajectories(plan: Plan, perturb: bool) -> dict[str, dict[str, Trajectory]]:
    """Of the first repetition of every cell."""
    train = FirstSteps(plan.suite.data_dir)
    trajectories: dict[str, dict[str, Trajectory]] = {}
    for loss, cells in plan.cells.items():
        for cell, (run, *_) in cells.items():
            measured = train(run)
            if perturb:
                rate = (run.learning_rate or 0) * (1 + PERTURBATION)
                measured = trajectory.predictable_steps(measured, train(replace(run, learning_rate=rate)))
            trajectories.setdefault(loss, {})[cell] = measured
    return trajectories


def _compare_function(loss: str, reference: Measurements, current: Measurements) -> list[GateCheck]:
    if loss not in reference.function:
        return [_new("function", loss)]
    return function.compare(loss, reference.function[loss], current.function[loss])


def _compare_trajectories(loss: str, reference: Measurements, current: Measurements) -> list[GateCheck]:
    if loss not in reference.embedding_descent or loss not in reference.trajectory:
        return [_new("trajectory", loss)]
    descents = (reference.embedding_descent[loss], current.embedding_descent[loss])
    checks = [trajectory.compare(loss, FREE_EMBEDDINGS, *descents)]
    for cell, measured in current.trajectory[loss].items():
        stored = reference.trajectory[loss].get(cell)
        checks.append(trajectory.compare(loss, cell, stored, measured) if stored else _new("trajectory", loss, cell))
    return checks


def _missing_outcomes(plan: Plan, reference: Measurements) -> list[GateCheck]:
    """Cells that the reference does not have with all their repetitions; too few of them would prove nothing."""
    return [
        _new("outcome", loss, cell)
        for loss, cells in plan.cells.items()
        for cell, runs in cells.items()
        if len(reference.outcome.get(loss, {}).get(cell, [])) != len(runs)
    ]


def _new(tier: str, loss: str, where: str = "") -> GateCheck:
    """The check of something that the reference does not have."""
    return GateCheck(tier, loss, where, "status", None, None, CHANGED, note="not in the reference")


def _describe(reference: Reference) -> str:
    """Date, commit, torch version and reason of the last update."""
    made, last = reference.provenance, reference.history[-1]
    commit = f"commit {made['commit']}, " if made.get("commit") else ""
    return f"{made['at'][:10]}, {commit}torch {made['torch']}: {last['reason']}"


def _version_changes(plan: Plan, reference: Reference) -> tuple[tuple[str, ...], dict[str, bool]]:
    """Descriptions of all versions that differ from the reference's; loss -> whether a plug-in file of it does."""
    before, after = reference.plugin_versions, plan.plugin_versions
    changed = {key for key in {**after, **before} if after.get(key) != before.get(key)}
    changes = [f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}" for key in sorted(changed)]
    made, here = reference.provenance, provenance()
    keys = ("package", "torch", "numpy", "python", "instructions")
    changes += [f"{key}: {made.get(key)} -> {here[key]}" for key in keys if made.get(key) != here[key]]
    loss_file_changed = {}
    for loss, cells in plan.cells.items():
        files = {key for runs in cells.values() for key in protocol.versions(runs[0]) if key.startswith("losses.")}
        loss_file_changed[loss] = bool(files & changed)
    return tuple(changes), loss_file_changed


def count_changed(reference: Measurements, current: Measurements) -> int:
    """In how many checks two measurements differ."""
    checks = [check for loss in current.function for check in _compare_function(loss, reference, current)]
    checks += [c for loss in current.embedding_descent for c in _compare_trajectories(loss, reference, current)]
    checks += outcome.compare(reference.outcome, current.outcome) if reference.outcome else []
    return sum(check.status == CHANGED for check in checks)
