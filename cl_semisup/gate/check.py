"""One run of the gate: measure the tiers, cheapest first, and compare each with the reference."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from cl_semisup.gate import function, outcome, trajectory
from cl_semisup.gate.finding import MOVED, TIERS, Finding
from cl_semisup.gate.outcome import Execute
from cl_semisup.gate.plan import Plan
from cl_semisup.gate.reference import ProbeResult, Reference, made_with
from cl_semisup.gate.trajectory import FREE, Trainer, Trajectory
from cl_semisup.gate.verdict import Verdict
from cl_semisup.results import protocol

Tell = Callable[[str], None]


def measure(plan: Plan, execute: Execute, tiers: Sequence[str] = TIERS, tell: Tell = print) -> ProbeResult:
    """Everything a reference holds; trajectories are run twice and kept within their horizon."""
    found = ProbeResult()
    if "function" in tiers:
        tell("function")
        found.function = {loss: function.measure(plan.build(loss)) for loss in plan.cells}
    if "trajectory" in tiers:
        tell("trajectory")
        found.free, found.trajectory = _free(plan, nudged=True), _trajectories(plan, nudged=True)
    if "outcome" in tiers:
        tell("outcome")
        most = max(len(runs) for of in plan.cells.values() for runs in of.values())
        found.outcome = outcome.measure(plan.cells, execute, 0, most)
    return found


def check(
    plan: Plan, reference: Reference, execute: Execute, tiers: Sequence[str] = TIERS, tell: Tell = print
) -> tuple[Verdict, ProbeResult]:
    """The verdict, and what was measured for it."""
    then, now, seconds = reference.measured, ProbeResult(), {}
    findings: list[Finding] = []
    for tier in [tier for tier in TIERS if tier in tiers]:
        tell(tier)
        began = time.perf_counter()
        if tier == "function":
            now.function = {loss: function.measure(plan.build(loss)) for loss in plan.cells}
            findings += [f for loss in plan.cells for f in _function(loss, then, now)]
        elif tier == "trajectory":
            now.free, now.trajectory = _free(plan), _trajectories(plan)
            findings += [f for loss in plan.cells for f in _steps(loss, then, now)]
        elif then.outcome:
            found, now.outcome = outcome.check(plan.cells, then.outcome, execute)
            findings += found + [_unknown("outcome", loss) for loss in plan.cells if loss not in then.outcome]
        seconds[tier] = time.perf_counter() - began
    changed, files = _changed(plan, reference)
    return Verdict(plan.suite.file, tuple(findings), _since(reference), changed, files, seconds), now


def _free(plan: Plan, nudged: bool = False) -> dict[str, Trajectory]:
    found = {}
    for loss in plan.cells:
        one = trajectory.free(plan.build(loss))
        other = trajectory.free(plan.build(loss), rate=trajectory.FREE_RATE * (1 + trajectory.NUDGE)) if nudged else one
        found[loss] = trajectory.within_horizon(one, other)
    return found


def _trajectories(plan: Plan, nudged: bool = False) -> dict[str, dict[str, Trajectory]]:
    """The first repetition of every cell."""
    train = Trainer(plan.suite.data_dir)
    found: dict[str, dict[str, Trajectory]] = {}
    for loss, cells in plan.cells.items():
        for cell, (run, *_) in cells.items():
            one = train(run)
            rate = (run.learning_rate or 0) * (1 + trajectory.NUDGE)
            other = train(replace(run, learning_rate=rate)) if nudged else one
            found.setdefault(loss, {})[cell] = trajectory.within_horizon(one, other)
    return found


def _function(loss: str, then: ProbeResult, now: ProbeResult) -> list[Finding]:
    if loss not in then.function:
        return [_unknown("function", loss)]
    return function.compare(loss, then.function[loss], now.function[loss])


def _steps(loss: str, then: ProbeResult, now: ProbeResult) -> list[Finding]:
    if loss not in then.free or loss not in then.trajectory:
        return [_unknown("trajectory", loss)]
    found = [trajectory.compare(loss, FREE, then.free[loss], now.free[loss])]
    for cell, measured in now.trajectory[loss].items():
        before = then.trajectory[loss].get(cell)
        found.append(trajectory.compare(loss, cell, before, measured) if before else _unknown("trajectory", loss, cell))
    return found


def _unknown(tier: str, loss: str, where: str = "") -> Finding:
    return Finding(tier, loss, where, "status", None, None, MOVED, note="not in the reference")


def _since(reference: Reference) -> str:
    made, last = reference.made, reference.history[-1]
    commit = f"commit {made['commit']}, " if made.get("commit") else ""
    return f"{made['at'][:10]}, {commit}torch {made['torch']}: {last['reason']}"


def _changed(plan: Plan, reference: Reference) -> tuple[tuple[str, ...], dict[str, bool]]:
    """Files and versions that differ from the reference's, and for each loss whether a file of its own does."""
    made, current = made_with(), plan.versions
    moved = {key for key in {**current, **reference.plugins} if current.get(key) != reference.plugins.get(key)}
    said = [f"{key}: {reference.plugins.get(key, 'absent')} -> {current.get(key, 'absent')}" for key in sorted(moved)]
    versions = ("package", "torch", "numpy", "python", "instructions")
    said += [
        f"{key}: {reference.made.get(key)} -> {made[key]}" for key in versions if reference.made.get(key) != made[key]
    ]
    files = {}
    for loss, cells in plan.cells.items():
        mine = {key for runs in cells.values() for key in protocol.versions(runs[0]) if key.startswith("losses.")}
        files[loss] = bool(mine & moved)
    return tuple(said), files


def moved(then: ProbeResult, now: ProbeResult) -> int:
    """How many checks two references differ in."""
    findings = [f for loss in now.function for f in _function(loss, then, now)]
    findings += [f for loss in now.free for f in _steps(loss, then, now)]
    findings += outcome.compare(then.outcome, now.outcome) if then.outcome else []
    return sum(finding.verdict == MOVED for finding in findings)
