"""How many planted faults the gate finds, in which tier, and its rate of false alarms on unchanged code.

    python benchmarks/gate_power.py                       # both parts, ten minutes on one core
    python benchmarks/gate_power.py --only faults         # one part: faults or alarms
    python benchmarks/gate_power.py --python OTHER        # also rerun with another interpreter, e.g. with another torch

Writes results/gate_power.json and, as soon as both parts exist, gate_power.md. A fault is planted by replacing one
function while the gate measures; files are not changed. The rerun gates are small, so that hundreds are affordable:

    exact tiers     Function and trajectory of one loss. Every rerun has its own initial weights, batches and views and
                    a learning rate of 0.3 or 10. The reference is measured in this process, the rerun in another
                    process with other threads, instructions or torch.
    outcome tier    Whole runs are recorded once in every environment. A gate compares a random choice of 8 repetitions
                    between this environment and another.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import _common
from cl_semisup import plugins
from cl_semisup.data import labels
from cl_semisup.data.views import ViewMaker
from cl_semisup.gate import check, ci, execute, outcome, reference
from cl_semisup.gate.gate_check import CHANGED, INCONCLUSIVE, TIERS, GateCheck, relative_deviation
from cl_semisup.gate.outcome import RunSummaries
from cl_semisup.gate.plan import Plan, cell_name, make_plan
from cl_semisup.gate.reference import Measurements, Reference, provenance
from cl_semisup.gate.result import GateResult, format_change
from cl_semisup.native.pairs import log_sum_and_partner
from cl_semisup.results.statistics import holm
from cl_semisup.suite import suite
from cl_semisup.training import ema, loop, model, schedule

SUITE = """\
question: Does the gate find what is planted?
datasets: digits
encoder: {mlp: {width: 32, layers: 1}}
losses:
  - nt_xent
  - supcon
  - vicreg
  - cross_entropy
  - clop: {prototypes: learned}
  - clop
  - moco_v3: {hidden: 32}
label_fraction: 0.1
learning_rate: 0.3
batch_size: 64
repetitions: 8
epochs: 4
schedule: {warmup_epochs: 1}
projector: {dim: 16}
probes: {linear: false}
score: knn_top1_labelled
validation: all
"""
EXACT = ("function", "trajectory")
RERUN_LOSSES = ("vicreg", "clop(prototypes=learned)", "moco_v3(hidden=32)")
RATES = (0.3, 10)  # training is chaotic at 10
UNPAIRED = "no common seed"
GATES = 200  # reruns of either kind
REPETITIONS, POOL = 8, 16  # repetitions of a gate's outcome tier; recorded repetitions that they are drawn from


# faults -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A fault: name, the tier that should find it, and a function that plants it."""

    name: str
    tier: str
    plant: Callable[[ExitStack], None]


FAULTS: list[Fault] = []


def fault(name: str, tier: str) -> Callable[[Callable[[ExitStack], None]], Callable[[ExitStack], None]]:
    def add(plant: Callable[[ExitStack], None]) -> Callable[[ExitStack], None]:
        FAULTS.append(Fault(name, tier, plant))
        return plant

    return add


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    with ExitStack() as stack:
        fault.plant(stack)
        yield


def _call(stack: ExitStack, loss: str, wrong: Callable[..., Tensor]) -> None:
    """Replace a loss's call by wrong(right, self, z1, z2, labels)."""
    kind = plugins.load("losses", loss)
    right = kind.__call__
    stack.enter_context(
        patch.object(kind, "__call__", lambda self, z1, z2, labels=None: wrong(right, self, z1, z2, labels))
    )


@fault("temperature wrong by 1 %", "function")
def _(stack: ExitStack) -> None:
    def wrong(right: Any, self: Any, *rest: Any) -> Tensor:
        return right(replace(self, temperature=1.01 * self.temperature), *rest)

    _call(stack, "nt_xent", wrong)


@fault("missing factor 2", "function")
def _(stack: ExitStack) -> None:
    _call(stack, "nt_xent", lambda right, *rest: right(*rest) / 2)


@fault("sum instead of mean", "function")
def _(stack: ExitStack) -> None:
    _call(stack, "supcon", lambda right, self, z1, *rest: right(self, z1, *rest) * len(z1))


@fault("gradient scaled by 1/2, value right", "function")
def _(stack: ExitStack) -> None:
    def wrong(right: Any, *rest: Any) -> Tensor:
        value = right(*rest)
        return value.detach() + (value - value.detach()) / 2

    _call(stack, "nt_xent", wrong)


@fault("stop-gradient on the second view", "function")
def _(stack: ExitStack) -> None:
    _call(stack, "nt_xent", lambda right, self, z1, z2, labels: right(self, z1, z2.detach(), labels))


@fault("self-pair kept in the denominator", "function")
def _(stack: ExitStack) -> None:
    def wrong(z: Tensor, temperature: float, ids: Tensor) -> tuple[Tensor, Tensor]:
        total, partner = log_sum_and_partner(z, temperature, ids)
        return torch.logaddexp(total, z.square().sum(dim=1) / temperature), partner

    stack.enter_context(patch("cl_semisup.contrast.pairs.log_sum_and_partner", wrong))


@fault("-1 taken as a class", "function")
def _(stack: ExitStack) -> None:
    def wrong(labels: Tensor | None, count: int, device: Any) -> Tensor:
        return -torch.ones(count, dtype=torch.long) if labels is None else labels

    stack.enter_context(patch("cl_semisup.losses.supcon.identities", wrong))


@fault("one view only", "function")
def _(stack: ExitStack) -> None:
    _call(stack, "supcon", lambda right, self, z1, z2, labels: right(self, z1, z1 + 0 * z2, labels))


@fault("pairs shuffled inside the loss", "function")
def _(stack: ExitStack) -> None:
    _call(stack, "nt_xent", lambda right, self, z1, z2, labels: right(self, z1, z2.roll(1, 0), labels))


@fault("similarity in bfloat16", "function")
def _(stack: ExitStack) -> None:
    both = lambda z1, z2: nn.functional.normalize(torch.cat([z1, z2])).bfloat16().to(z1.dtype)  # noqa: E731
    stack.enter_context(patch("cl_semisup.losses.nt_xent.both", both))


@fault("eps of the normalisation too large", "function")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch("cl_semisup.contrast.pairs.EPS", 1e-2))


@fault("prototypes not orthonormal", "function")
def _(stack: ExitStack) -> None:
    from cl_semisup.contrast.prototypes import random_unit

    drawn = lambda classes, dim, generator, what: random_unit(classes, dim, generator)  # noqa: E731
    stack.enter_context(patch("cl_semisup.losses.clop.orthonormal", drawn))


@fault("variance divided by N", "function")
def _(stack: ExitStack) -> None:
    kind: Any = plugins.load("losses", "vicreg")
    right = kind._regularisation
    wrong = lambda self, z: right(self, z * (1 - 1 / len(z)) ** 0.5)  # noqa: E731
    stack.enter_context(patch.object(kind, "_regularisation", wrong))


@fault("label smoothing left on", "function")
def _(stack: ExitStack) -> None:
    _of_call: Any = plugins.load("losses", "cross_entropy")
    right = _of_call.per_image
    wrong = lambda self, *rest: right(replace(self, label_smoothing=0.1), *rest)  # noqa: E731
    stack.enter_context(patch.object(_of_call, "per_image", wrong))


@fault("label leak: every label is shown", "trajectory")
def _(stack: ExitStack) -> None:
    right = labels.of_run

    def wrong(true: np.ndarray, run: Any, *rest: Any, **more: Any) -> Any:
        drawn = right(true, run, *rest, **more)
        return replace(drawn, visible_labels=np.asarray(true)[drawn.indices])

    stack.enter_context(patch.object(labels, "of_run", wrong))


@fault("momentum encoder stands still", "trajectory")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(ema, "update", lambda ema_model, model, decay: None))


@fault("learning-rate schedule off by one epoch", "trajectory")
def _(stack: ExitStack) -> None:
    wrong = lambda step, steps, each, s: schedule.lr_factor(min(step + each, steps - 1), steps, each, s)  # noqa: E731
    stack.enter_context(patch.object(loop, "lr_factor", wrong))


@fault("warm-up ignored", "trajectory")
def _(stack: ExitStack) -> None:
    cold = lambda step, steps, each, s: schedule.lr_factor(step, steps, each, replace(s, warmup_epochs=0.0))  # noqa: E731
    stack.enter_context(patch.object(loop, "lr_factor", cold))


@fault("weight decay on or off learned prototypes", "trajectory")
def _(stack: ExitStack) -> None:
    right = loop.split_parameters

    def wrong(network: nn.Module, loss: Any) -> Any:
        groups = right(network, loss)
        own = {id(p) for p in loss.parameters()} if isinstance(loss, nn.Module) else set()
        other = [[p for p in group if id(p) not in own] for group in groups]
        for group, rest in zip(groups, reversed(other), strict=True):
            rest += [p for p in group if id(p) in own]
        return tuple(other)

    stack.enter_context(patch.object(loop, "split_parameters", wrong))


@fault("augmentation 20 % stronger", "trajectory")
def _(stack: ExitStack) -> None:
    right = ViewMaker.__init__

    def wrong(self: Any, settings: Any, *rest: Any) -> None:
        names = ("rotation", "shift", "zoom", "brightness", "contrast")
        right(self, replace(settings, **{name: 1.2 * getattr(settings, name) for name in names}), *rest)

    stack.enter_context(patch.object(ViewMaker, "__init__", wrong))


@fault("pairs shuffled by the views", "trajectory")
def _(stack: ExitStack) -> None:
    right, calls = ViewMaker.__call__, iter(range(10**9))
    wrong = lambda self, images, *rest: right(self, images.roll(next(calls) % 2, 0), *rest)  # noqa: E731
    stack.enter_context(patch.object(ViewMaker, "__call__", wrong))


@fault("last batch of an epoch dropped", "trajectory")
def _(stack: ExitStack) -> None:
    right = loop.train

    def wrong(parts: Any, *, batch_size: int, **rest: Any) -> None:
        fewer = len(parts.images) - batch_size
        right(
            replace(parts, images=parts.images[:fewer], visible_labels=parts.visible_labels[:fewer]),
            batch_size=batch_size,
            **rest,
        )

    stack.enter_context(patch.object(loop, "train", wrong))


@fault("batch-norm momentum 0.3 instead of 0.1", "trajectory")
def _(stack: ExitStack) -> None:
    right = nn.BatchNorm1d.__init__
    wrong = lambda self, *rest, **more: right(self, *rest, **{"momentum": 0.3, **more})  # noqa: E731
    stack.enter_context(patch.object(nn.BatchNorm1d, "__init__", wrong))


@fault("projector without batch norm", "trajectory")
def _(stack: ExitStack) -> None:
    right: Callable[..., Any] = model.build_projector

    def wrong(*rest: Any) -> nn.Module:
        return nn.Sequential(*(layer for layer in right(*rest) if not isinstance(layer, nn.BatchNorm1d)))

    stack.enter_context(patch.object(model, "build_projector", wrong))


@fault("momentum of SGD 0.8 instead of 0.9", "trajectory")
def _(stack: ExitStack) -> None:
    kind: Any = plugins.load("optimizers", "sgd")
    right = kind.build
    stack.enter_context(patch.object(kind, "build", lambda self, *rest: right(replace(self, momentum=0.8), *rest)))


@fault("kNN temperature 1 instead of 0.1", "trajectory")
def _(stack: ExitStack) -> None:
    kind: Any = plugins.load("evaluation", "knn")
    right = kind.measure
    stack.enter_context(patch.object(kind, "measure", lambda self, e: right(replace(self, temperature=1.0), e)))


@fault("learning rate falls to a hundredth after step 25", "outcome")
def _(stack: ExitStack) -> None:
    late = lambda step, *rest: schedule.lr_factor(step, *rest) * (0.01 if step > 25 else 1)  # noqa: E731
    stack.enter_context(patch.object(loop, "lr_factor", late))


@fault("labels forgotten in single precision", "outcome")
def _(stack: ExitStack) -> None:
    def wrong(right: Any, self: Any, z1: Tensor, z2: Tensor, labels: Any) -> Tensor:
        return right(self, z1, z2, labels if z1.dtype == torch.float64 else None)

    _call(stack, "supcon", wrong)


@fault("similarity of single precision scaled by 0.9", "outcome")
def _(stack: ExitStack) -> None:
    def wrong(right: Any, self: Any, z1: Tensor, *rest: Any) -> Tensor:
        warmer = self if z1.dtype == torch.float64 else replace(self, temperature=self.temperature / 0.9)
        return right(warmer, z1, *rest)

    _call(stack, "nt_xent", wrong)


# detection ----------------------------------------------------------------------------------------------------------


def small_plan(text: str = SUITE) -> Plan:
    return make_plan(suite.parse(text, "power.yaml"), text)


def reference_of(plan: Plan, tiers: tuple[str, ...] = TIERS) -> Reference:
    measurements = check.measure(plan, execute.in_process(plan.suite.data_dir), tiers, show_tier=_show_nothing)
    entry = {"at": "", "commit": "", "torch": "", "reason": "unchanged code", "moved": 0, "figures": {}}
    return Reference("power", plan.suite_hash, provenance(), plan.plugin_versions, [entry], measurements)


def find(fault: Fault, plan: Plan, stored: Reference, tiers: tuple[str, ...] = TIERS) -> GateResult | None:
    """The result of the cheapest tier that finds the fault; None if no tier does."""
    with planted(fault):
        for tier in tiers:
            result, _ = run_checks(plan, stored, (tier,))
            if result.exit_code:
                return result
    return None


def run_checks(plan: Plan, stored: Reference, tiers: Sequence[str]) -> tuple[GateResult, Measurements]:
    return check.run_checks(plan, stored, execute.in_process(plan.suite.data_dir), tiers, show_tier=_show_nothing)


def _show_nothing(_: str) -> None:
    pass


# false alarms -------------------------------------------------------------------------------------------------------


def exact_gates(plan: Plan, count: int) -> list[Plan]:
    """Gates of one loss with different initial weights, batches and views, half of them at a learning rate of 10."""
    gates = []
    for number in range(count):
        turn, which = divmod(number, len(RERUN_LOSSES))
        run = next(iter(plan.cells[RERUN_LOSSES[which]].values()))[0]
        run = replace(run, repetition=100 + number, learning_rate=RATES[turn % len(RATES)])
        gates.append(replace(plan, cells={RERUN_LOSSES[which]: {cell_name(run, [run]): [run]}}))
    return gates


def store(gates: Sequence[Plan], folder: Path) -> None:
    """Writes the reference of every gate, measured in this process."""
    for number, gate in enumerate(gates):
        reference.write(folder / f"{number}.json", reference_of(gate, EXACT))


def rerun(plan: Plan, folder: Path) -> dict[str, Any]:
    """The checks of this process against the stored references, and its recorded repetitions."""
    changed, largest, checks = [], 0.0, 0
    gates = exact_gates(plan, len(list(folder.glob("*.json"))))
    for number, gate in enumerate(gates):
        stored = reference.read(folder / f"{number}.json")
        result, current = run_checks(gate, stored, EXACT)
        changed += [f"gate {number}: {ci.describe(c)}" for c in result.changed_checks[:1]]
        checks += len(result.checks)
        largest = max(largest, _largest_deviation(stored.measurements, current))
    summary = {"torch": torch.__version__, "gates": len(gates), "checks": checks, "moved": changed, "largest": largest}
    return summary | {"outcomes": outcome_pool(plan)}


def _largest_deviation(stored: Measurements, current: Measurements) -> float:
    """The largest deviation of any number of the exact tiers."""
    rows = [(row, current.function[loss][name]) for loss, v in stored.function.items() for name, row in v.items()]
    pairs = [(descent, current.embedding_descent[loss]) for loss, descent in stored.embedding_descent.items()]
    for loss, trajectories in stored.trajectory.items():
        pairs += [(trajectory, current.trajectory[loss][cell]) for cell, trajectory in trajectories.items()]
    for trajectory, other in pairs:
        rows += zip(trajectory.steps, other.steps, strict=False)
        names = [name for name, value in trajectory.end.items() if not isinstance(value, str)]
        rows.append(([trajectory.end[name] for name in names], [other.end.get(name) for name in names]))
    return max(relative_deviation(a, b) for row, other in rows for a, b in zip(row, other, strict=True))


def environments(pythons: Sequence[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(name, interpreter, environment variables) of every kind of rerun."""
    yield "2 threads", sys.executable, {"OMP_NUM_THREADS": "2"}
    yield "2 threads, AVX2", sys.executable, {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2"}
    yield "1 thread, no vector instructions", sys.executable, {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"}
    for python in pythons:
        yield "1 thread, another interpreter", python, {"OMP_NUM_THREADS": "1"}


def outcome_pool(plan: Plan) -> RunSummaries:
    """Summaries of POOL repetitions of every cell."""
    cells = {
        loss: {cell: [replace(runs[0], repetition=r) for r in range(POOL)] for cell, runs in plan.cells[loss].items()}
        for loss in RERUN_LOSSES
    }
    return outcome.measure(cells, execute.in_process(plan.suite.data_dir), 0, POOL)


def outcome_alarms(stored: RunSummaries, current: RunSummaries, gates: int, paired: bool = True) -> dict[str, int]:
    """Counts over gates of unchanged code, which draw random repetitions of both pools: the same, or different ones."""
    random, counts = np.random.RandomState(0), {"gates": gates, "alarms": 0, "checks": 0, "inconclusive": 0}
    size = len(next(iter(next(iter(stored.values())).values())))
    for _ in range(gates):
        order = random.permutation(size)
        drawn = (order[:REPETITIONS], order[:REPETITIONS] if paired else order[REPETITIONS : 2 * REPETITIONS])
        before, after = (
            {loss: {cell: [runs[i] for i in part] for cell, runs in cells.items()} for loss, cells in pool.items()}
            for pool, part in zip((stored, current), drawn, strict=True)
        )
        checks = _both_looks(before, after)
        counts["alarms"] += any(c.status == CHANGED for c in checks)
        counts["checks"] += len(checks)
        counts["inconclusive"] += sum(c.status == INCONCLUSIVE for c in checks)
    return counts


def _both_looks(stored: RunSummaries, current: RunSummaries) -> list[GateCheck]:
    """The checks of the outcome tier, with recorded summaries instead of runs."""
    summaries: dict[Any, Any] = {}
    runs: dict[str, Any] = {}
    for loss, cells in current.items():
        for cell, cell_summaries in cells.items():
            ids = [(loss, cell, repetition) for repetition in range(len(cell_summaries))]
            summaries.update(zip(ids, cell_summaries, strict=True))
            runs.setdefault(loss, {})[cell] = [SimpleNamespace(id=run_id) for run_id in ids]
    return outcome.run_checks(runs, stored, lambda chosen: {run.id: summaries[run.id] for run in chosen})[0]


def simulated_alarms(gates: int, tests: int = 40, n: int = REPETITIONS) -> dict[str, int]:
    """Gates with an alarm, and with a detected change of 1.5 margins, for Gaussian differences, sd half a margin."""
    random, margin, alarms, detected = np.random.RandomState(1), outcome.SCORE_MARGIN, 0, 0
    limit = outcome.FALSE_ALARM_RATE / outcome.LOOKS
    for _ in range(gates):
        looks = [random.standard_normal((tests, n)) * margin / 2 for _ in range(outcome.LOOKS)]
        hit = False
        for differences in looks:  # both, as if every loss were in doubt after the first
            tested = [outcome.paired_t_test(list(row), margin) for row in differences]
            adjusted = holm([t.p for t in tested])
            hit |= any(p < limit and abs(t.mean) > margin / 2 for p, t in zip(adjusted, tested, strict=True))
        alarms += hit
        shifted = outcome.paired_t_test(list(looks[1][0] + 1.5 * margin), margin)
        detected += holm([shifted.p, *(t.p for t in tested[1:])])[0] < limit
    return {"gates": gates, "alarms": alarms, "found": detected}


def upper_bound(alarms: int, gates: int) -> float:
    """Upper end of the one-sided 95 % confidence interval of the rate of false alarms. Source: Clopper 1934"""
    return float(stats.beta.ppf(0.95, alarms + 1, gates - alarms)) if alarms < gates else 1.0


# report -------------------------------------------------------------------------------------------------------------


def detections(plan: Plan, _: Sequence[str]) -> dict[str, Any]:
    """For every fault: the tier that should find it, the tier that did, and the first check that changed."""
    stored, rows = reference_of(plan), []
    for fault in FAULTS:
        seconds, result = _common.timed(partial(find, fault, plan, stored), time.process_time)
        first = result.changed_checks[0] if result else None
        row = {"fault": fault.name, "tier": fault.tier, "found_in": first.tier if first else "", "first": ""}
        if first:
            place = ", ".join(filter(None, (first.loss, first.where, first.quantity)))
            row["first"] = f"{place} {format_change(first)}"
        rows.append(row | {"seconds": round(seconds, 1)})
        print(rows[-1], flush=True)
    return {"faults": rows}


def false_alarms(plan: Plan, pythons: Sequence[str]) -> dict[str, Any]:
    """Reruns of both kinds in every environment."""
    others = list(environments(pythons))
    here, exact, outcomes = outcome_pool(plan), [], []
    with TemporaryDirectory() as folder:
        store(exact_gates(plan, -(-GATES // len(others))), Path(folder))
        for name, python, variables in others:
            summary = _common.run_json(__file__, "--rerun", folder, python=python, **variables)
            there = summary.pop("outcomes")
            exact.append({"with": name, **summary})
            outcomes.append({"with": name, **outcome_alarms(here, there, GATES)})
            print(exact[-1], outcomes[-1], sep="\n", flush=True)
    outcomes.append({"with": UNPAIRED, **outcome_alarms(here, here, GATES, paired=False)})
    return {"exact": exact, "outcome": outcomes, "simulated": simulated_alarms(1000)}


def report(faults: dict[str, Any], alarms: dict[str, Any]) -> str:
    """The results as Markdown."""
    exact, outcomes, simulated = (alarms[key] for key in ("exact", "outcome", "simulated"))
    paired = [row for row in outcomes if row["with"] != UNPAIRED]
    reruns, moved = sum(row["gates"] for row in exact), sum(len(row["moved"]) for row in exact)
    return REPORT.format(
        faults_made=MADE.format(**faults["made"], seconds=faults["seconds"]),
        right=sum(row["tier"] == row["found_in"] for row in faults["faults"]),
        count=len(faults["faults"]),
        faults=_table(faults["faults"], "fault", "tier", "found_in", "first", "seconds"),
        alarms_made=MADE.format(**alarms["made"], seconds=alarms["seconds"]),
        reruns=reruns,
        moved=moved,
        bound=100 * upper_bound(moved, reruns),
        exact=_table(exact, "with", "torch", "gates", "checks", "moved", "largest"),
        losses=len(RERUN_LOSSES),
        pool=POOL,
        repetitions=REPETITIONS,
        resampled=sum(row["gates"] for row in paired),
        resampled_alarms=sum(row["alarms"] for row in paired),
        outcome=_table(outcomes, "with", "gates", "checks", "alarms", "inconclusive"),
        simulated=simulated["gates"],
        simulated_alarms=simulated["alarms"],
        simulated_bound=100 * upper_bound(simulated["alarms"], simulated["gates"]),
        power=100 * simulated["found"] / simulated["gates"],
    )


def _table(rows: Sequence[dict[str, Any]], *names: str) -> str:
    """Markdown; a list is shown as its length, a small number by its order of magnitude."""

    def cell(value: Any) -> str:
        value = len(value) if isinstance(value, list) else value
        return f"{value:.0e}" if isinstance(value, float) and 0 < value < 1e-3 else str(value)

    return _common.table([name.replace("_", " ") for name in names], [[cell(row[n]) for n in names] for row in rows])


MADE = "{seconds} s on one core of {cores} ({machine}, {instructions}; torch {torch}, Python {python}; commit {commit})"
REPORT = """\
# What the gate finds, and how often it raises a false alarm

Made by `python benchmarks/gate_power.py`.

## Planted faults

{right} of {count} are found in the tier that they belong to. Seconds are of processor time, up to the verdict.
In all {faults_made}.

{faults}

## False alarms

In all {alarms_made}.

**Exact tiers: {moved} of {reruns} reruns of unchanged code raise an alarm** (a rate below {bound:.1f} %, with 95 %
confidence). Each is a gate of one of {losses} losses, with first weights, batches and views of its own. An alarm needs
a deviation of 1e-8; the largest that is seen says more than the count. Numbers are kept to 11 digits: 0 is below that.

{exact}

**Outcome tier: {resampled_alarms} of {resampled} resampled gates raise one.** {pool} repetitions of {losses} losses are
recorded once here and once in every environment; a gate draws {repetitions} of them and takes both looks. Draws share
runs and are not independent, so the count speaks of these runs only. In the last row reference and rerun have no seed
in common, which is pairing at its worst.

{outcome}

The bound on a gate's rate is the design's: p-values after Holm over all losses and quantities, half of 1 % for either
look. That makes less than 1 % for any alarm in a gate, as far as a t-test of the differences of repetitions holds.
Simulated with Gaussian differences (40 checks, both looks, sd half a margin), {simulated_alarms} of {simulated} gates
raise an alarm (a rate below {simulated_bound:.1f} %, with 95 % confidence), and a change of 1.5 margins in one check is
found in {power:.0f} %.
"""


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part; by default both")
    parser.add_argument("--python", action="append", default=[], help="another interpreter to rerun with")
    parser.add_argument("--rerun", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    plan = small_plan()
    if options.rerun:
        print(json.dumps(rerun(plan, options.rerun)))
        return 0
    results = _common.load("gate_power") or {"schema": 1}
    for part in [options.only] if options.only else PARTS:
        seconds, measured = _common.timed(partial(PARTS[part], plan, options.python))
        results[part] = {"made": provenance(), "seconds": round(seconds), **measured}
        complete = all(name in results for name in PARTS)
        _common.save("gate_power", report(results["faults"], results["alarms"]) if complete else None, results)
    missed = any(row["tier"] != row["found_in"] for row in results.get("faults", {}).get("faults", []))
    return int(missed or any(row["moved"] for row in results.get("alarms", {}).get("exact", [])))


PARTS = {"faults": detections, "alarms": false_alarms}

if __name__ == "__main__":
    sys.exit(main())
