"""How many planted faults the gate finds, in which tier, and how often it cries wolf over unchanged code.

    python benchmarks/gate_power.py                       # both parts, ten minutes on one core
    python benchmarks/gate_power.py --only faults         # or one of them: faults, alarms
    python benchmarks/gate_power.py --python OTHER        # rerun under another interpreter too, e.g. with another torch

Writes results/gate_power.json and, once it has both parts, gate_power.md. Faults are planted by replacing one function
while the gate measures; the code on disk is never touched. What is rerun is small, so that hundreds are affordable:

    exact tiers     function and trajectory of one loss, every rerun with first weights, batches and views of its own
                    and a learning rate of 0.3 or 10; the reference is measured here, the rerun in another process
                    with other threads, instructions or torch
    outcome tier    whole runs are recorded once in every environment; a gate is a random choice of 8 repetitions of
                    them, here against there
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cl_semisup import plugins  # noqa: E402
from cl_semisup.data import labels  # noqa: E402
from cl_semisup.data.views import ViewMaker  # noqa: E402
from cl_semisup.gate import check, ci, execute, finding, outcome, reference  # noqa: E402
from cl_semisup.gate import verdict as verdict_words  # noqa: E402
from cl_semisup.gate.plan import Plan, cell_name, plan  # noqa: E402
from cl_semisup.gate.reference import Reference, made_with  # noqa: E402
from cl_semisup.gate.verdict import Verdict  # noqa: E402
from cl_semisup.results import records  # noqa: E402
from cl_semisup.suite import suite  # noqa: E402
from cl_semisup.training import ema, loop, model, schedule  # noqa: E402

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
"""
EXACT = ("function", "trajectory")
RERUN_LOSSES = ("vicreg", "clop(prototypes=learned)", "moco_v3(hidden=32)")
RATES = (0.3, 10)  # at the second training is chaotic
WORST = "no common seed"
GATES = 200  # reruns of either kind
REPETITIONS, POOL = 8, 16  # of a gate's outcome tier, and recorded to draw them from
RESULTS = ROOT / "benchmarks" / "results"


# faults -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something wrong, the tier it belongs to, and how it is planted."""

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
def planted(what: Fault) -> Iterator[None]:
    with ExitStack() as stack:
        what.plant(stack)
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
    nobody = lambda numbers: torch.zeros(len(numbers), len(numbers), dtype=torch.bool)  # noqa: E731
    stack.enter_context(patch("cl_semisup.contrast.same", nobody))


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
    kind = plugins.load("losses", "vicreg")
    right = kind._spread
    wrong = lambda self, z: right(self, z * (1 - 1 / len(z)) ** 0.5)  # noqa: E731
    stack.enter_context(patch.object(kind, "_spread", wrong))


@fault("label smoothing left on", "function")
def _(stack: ExitStack) -> None:
    _of_call = plugins.load("losses", "cross_entropy")
    right = _of_call.per_image
    wrong = lambda self, *rest: right(replace(self, label_smoothing=0.1), *rest)  # noqa: E731
    stack.enter_context(patch.object(_of_call, "per_image", wrong))


@fault("label leak: every label is visible_labels", "trajectory")
def _(stack: ExitStack) -> None:
    right = labels.of_run

    def wrong(true: np.ndarray, asked: Any, *rest: Any, **more: Any) -> Any:
        drawn = right(true, asked, *rest, **more)
        return replace(drawn, visible_labels=np.asarray(true)[drawn.indices])

    stack.enter_context(patch.object(labels, "of_run", wrong))


@fault("momentum encoder stands still", "trajectory")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(ema, "update", lambda ema_model, model, decay: None))


@fault("learning-rate schedule off by one epoch", "trajectory")
def _(stack: ExitStack) -> None:
    wrong = lambda step, steps, each, asked: schedule.lr_factor(min(step + each, steps - 1), steps, each, asked)  # noqa: E731
    stack.enter_context(patch.object(loop, "lr_factor", wrong))


@fault("warm-up ignored", "trajectory")
def _(stack: ExitStack) -> None:
    cold = lambda step, steps, each, asked: schedule.lr_factor(step, steps, each, replace(asked, warmup_epochs=0.0))  # noqa: E731
    stack.enter_context(patch.object(loop, "lr_factor", cold))


@fault("weight decay on or off learned prototypes", "trajectory")
def _(stack: ExitStack) -> None:
    right = loop.split_parameters

    def wrong(network: nn.Module, loss: Any) -> Any:
        groups = right(network, loss)
        own = {id(p) for p in loss.parameters()} if isinstance(loss, nn.Module) else set()
        other = [[p for p in group if id(p) not in own] for group in groups]
        for group, kept in zip(groups, reversed(other), strict=True):
            kept += [p for p in group if id(p) in own]
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
    wrong = lambda self, images, name: right(self, images.roll(next(calls) % 2, 0), name)  # noqa: E731
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
    right = model.build_projector

    def wrong(*rest: Any) -> nn.Module:
        return nn.Sequential(*(layer for layer in right(*rest) if not isinstance(layer, nn.BatchNorm1d)))

    stack.enter_context(patch.object(model, "build_projector", wrong))


@fault("momentum of SGD 0.8 instead of 0.9", "trajectory")
def _(stack: ExitStack) -> None:
    kind = plugins.load("optimizers", "sgd")
    right = kind.build
    stack.enter_context(patch.object(kind, "build", lambda self, *rest: right(replace(self, momentum=0.8), *rest)))


@fault("kNN temperature 1 instead of 0.1", "trajectory")
def _(stack: ExitStack) -> None:
    kind = plugins.load("evaluation", "knn")
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
    return plan(suite.parse(text, "power.yaml"), text)


def reference_of(asked: Plan, tiers: tuple[str, ...] = finding.TIERS) -> Reference:
    measured = check.measure(asked, execute.here(asked.suite.data_dir), tiers, tell=_silent)
    entry = {"at": "", "commit": "", "reason": "unchanged code", "figures": {}}
    return Reference("power", asked.asked, made_with(), asked.versions, [entry], measured)


def find(what: Fault, asked: Plan, stored: Reference, tiers: tuple[str, ...] = finding.TIERS) -> Verdict | None:
    """The verdict of the cheapest tier that moves; None if none does."""
    with planted(what):
        for tier in tiers:
            verdict, _ = check.check(asked, stored, execute.here(asked.suite.data_dir), (tier,), tell=_silent)
            if verdict.exit_code:
                return verdict
    return None


def _silent(_: str) -> None:
    pass


# false alarms -------------------------------------------------------------------------------------------------------


def exact_gates(asked: Plan, count: int) -> list[Plan]:
    """Gates of one loss each that share no first weights, batches or views, half of them at a rate of 10."""
    gates = []
    for number in range(count):
        turn, which = divmod(number, len(RERUN_LOSSES))
        run = next(iter(asked.cells[RERUN_LOSSES[which]].values()))[0]
        run = replace(run, repetition=100 + number, learning_rate=RATES[turn % len(RATES)])
        gates.append(replace(asked, cells={RERUN_LOSSES[which]: {cell_name(run, [run]): [run]}}))
    return gates


def store(gates: Sequence[Plan], folder: Path) -> None:
    """The reference of every gate, measured in this process."""
    for number, gate in enumerate(gates):
        reference.write(folder / f"{number}.json", reference_of(gate, EXACT))


def rerun(asked: Plan, folder: Path) -> dict[str, Any]:
    """What this process finds against the stored references, and the outcomes that it comes to."""
    moved, largest, checks = [], 0.0, 0
    gates = exact_gates(asked, len(list(folder.glob("*.json"))))
    for number, gate in enumerate(gates):
        stored = reference.read(folder / f"{number}.json")
        verdict, now = check.check(gate, stored, execute.here(asked.suite.data_dir), EXACT, tell=_silent)
        moved += [f"gate {number}: {ci.sentence(f)}" for f in verdict.moved[:1]]
        checks += len(verdict.findings)
        largest = max(largest, _largest(stored.measured, now))
    found = {"torch": torch.__version__, "gates": len(gates), "checks": checks, "moved": moved, "largest": largest}
    return found | {"outcomes": outcome_pool(asked)}


def _largest(then: reference.ProbeResult, now: reference.ProbeResult) -> float:
    """The largest deviation of any number of the exact tiers."""
    rows = [(row, now.function[loss][name]) for loss, of in then.function.items() for name, row in of.items()]
    paths = [(path, now.free[loss]) for loss, path in then.free.items()]
    paths += [(path, now.trajectory[loss][cell]) for loss, of in then.trajectory.items() for cell, path in of.items()]
    for path, other in paths:
        rows += zip(path.steps, other.steps, strict=False)
        names = [name for name, value in path.end.items() if not isinstance(value, str)]
        rows.append(([path.end[name] for name in names], [other.end.get(name) for name in names]))
    return max(finding.deviation(a, b) for row, other in rows for a, b in zip(row, other, strict=True))


def environments(pythons: Sequence[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, interpreter and settings of every kind of rerun."""
    yield "2 threads", sys.executable, {"OMP_NUM_THREADS": "2"}
    yield "2 threads, AVX2", sys.executable, {"OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2"}
    yield "1 thread, no vector instructions", sys.executable, {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"}
    for python in pythons:
        yield "1 thread, another interpreter", python, {"OMP_NUM_THREADS": "1"}


Pool = dict[str, dict[str, list[outcome.Ended]]]


def outcome_pool(asked: Plan) -> Pool:
    """How POOL repetitions of every cell end."""
    cells = {
        loss: {cell: [replace(runs[0], repetition=r) for r in range(POOL)] for cell, runs in asked.cells[loss].items()}
        for loss in RERUN_LOSSES
    }
    return outcome.measure(cells, execute.here(asked.suite.data_dir), 0, POOL)


def outcome_alarms(then: Pool, now: Pool, gates: int, paired: bool = True) -> dict[str, int]:
    """Gates of unchanged code: random repetitions of both pools, the same ones or, at pairing's worst, others."""
    random, found = np.random.RandomState(0), {"gates": gates, "alarms": 0, "checks": 0, "inconclusive": 0}
    size = len(next(iter(next(iter(then.values())).values())))
    for _ in range(gates):
        order = random.permutation(size)
        drawn = (order[:REPETITIONS], order[:REPETITIONS] if paired else order[REPETITIONS : 2 * REPETITIONS])
        before, after = (
            {loss: {cell: [runs[i] for i in part] for cell, runs in of.items()} for loss, of in pool.items()}
            for pool, part in zip((then, now), drawn, strict=True)
        )
        findings = _both_looks(before, after)
        found["alarms"] += any(f.verdict == finding.MOVED for f in findings)
        found["checks"] += len(findings)
        found["inconclusive"] += sum(f.verdict == finding.INCONCLUSIVE for f in findings)
    return found


def _both_looks(then: Pool, now: Pool) -> list[finding.Finding]:
    """The outcome tier as it is, with recorded ends in the place of runs."""
    ends = {(loss, cell, r): end for loss, of in now.items() for cell, runs in of.items() for r, end in enumerate(runs)}
    cells: dict[str, dict[str, list[Any]]] = {loss: {cell: [] for cell in of} for loss, of in now.items()}
    for loss, cell, r in ends:
        cells[loss][cell].append(SimpleNamespace(id=(loss, cell, r)))
    return outcome.check(cells, then, lambda runs: {run.id: ends[run.id] for run in runs})[0]  # type: ignore[misc]


def simulated_alarms(gates: int, tests: int = 40, n: int = REPETITIONS) -> dict[str, int]:
    """Gates with an alarm, and with a change of 1.5 margins found, when differences are Gaussian, sd half a margin."""
    random, margin, alarms, found = np.random.RandomState(1), outcome.SCORE_MARGIN, 0, 0
    limit = outcome.FALSE_ALARMS / outcome.LOOKS
    for _ in range(gates):
        looks = [random.standard_normal((tests, n)) * margin / 2 for _ in range(outcome.LOOKS)]
        hit = False
        for differences in looks:  # both, as if every loss were in doubt after the first
            tested = [outcome.paired(list(row), margin) for row in differences]
            adjusted = outcome.holm([t.p for t in tested])
            hit |= any(p < limit and abs(t.mean) > margin / 2 for p, t in zip(adjusted, tested, strict=True))
        alarms += hit
        shifted = outcome.paired(list(looks[1][0] + 1.5 * margin), margin)
        found += outcome.holm([shifted.p, *(t.p for t in tested[1:])])[0] < limit
    return {"gates": gates, "alarms": alarms, "found": found}


def upper_bound(alarms: int, gates: int) -> float:
    """The largest rate of false alarms that the count does not contradict, 95 %, one-sided. Source: Clopper 1934"""
    return float(stats.beta.ppf(0.95, alarms + 1, gates - alarms)) if alarms < gates else 1.0


# report -------------------------------------------------------------------------------------------------------------


def detections(asked: Plan, _: Sequence[str]) -> dict[str, Any]:
    """Every fault: the tier that it belongs to, the one that found it, and what was seen first."""
    stored, rows = reference_of(asked), []
    for what in FAULTS:
        began = time.process_time()
        verdict = find(what, asked, stored)
        first = verdict.moved[0] if verdict else None
        row = {"fault": what.name, "tier": what.tier, "found_in": first.tier if first else "", "first": ""}
        if first:
            place = ", ".join(filter(None, (first.loss, first.where, first.quantity)))
            row["first"] = f"{place} {verdict_words.relative(first)}"
        rows.append(row | {"seconds": round(time.process_time() - began, 1)})
        print(rows[-1], flush=True)
    return {"faults": rows}


def false_alarms(asked: Plan, pythons: Sequence[str]) -> dict[str, Any]:
    """Reruns of both kinds in every environment."""
    others = list(environments(pythons))
    here, exact, outcomes = outcome_pool(asked), [], []
    with TemporaryDirectory() as folder:
        store(exact_gates(asked, -(-GATES // len(others))), Path(folder))
        for name, python, changed in others:
            command = [python, str(Path(__file__)), "--rerun", folder]
            done = subprocess.run(command, env={**os.environ, **changed}, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            there = found.pop("outcomes")
            exact.append({"with": name, **found})
            outcomes.append({"with": name, **outcome_alarms(here, there, GATES)})
            print(exact[-1], outcomes[-1], sep="\n", flush=True)
    outcomes.append({"with": WORST, **outcome_alarms(here, here, GATES, paired=False)})
    return {"exact": exact, "outcome": outcomes, "simulated": simulated_alarms(1000)}


def report(faults: dict[str, Any], alarms: dict[str, Any]) -> str:
    """What was found, for people."""
    exact, outcomes, simulated = (alarms[key] for key in ("exact", "outcome", "simulated"))
    paired = [row for row in outcomes if row["with"] != WORST]
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
    """Markdown; of a list its length, of a small number its size."""

    def cell(value: Any) -> str:
        value = len(value) if isinstance(value, list) else value
        return f"{value:.0e}" if isinstance(value, float) and 0 < value < 1e-3 else str(value)

    head = [" | ".join(name.replace("_", " ") for name in names), "|".join("---" for _ in names)]
    return "\n".join(f"| {line} |" for line in [*head, *(" | ".join(cell(row[n]) for n in names) for row in rows)])


MADE = "{seconds} s on one core of {cores} ({machine}, {instructions}; torch {torch}, Python {python}; commit {commit})"
REPORT = """\
# What the gate finds, and how often it cries wolf

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part; by default both")
    parser.add_argument("--python", action="append", default=[], help="another interpreter to rerun with")
    parser.add_argument("--rerun", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    asked = small_plan()
    if options.rerun:
        print(json.dumps(rerun(asked, options.rerun)))
        return 0
    stored = RESULTS / "gate_power.json"
    found: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.exists() else {"schema": 1}
    for part in [options.only] if options.only else PARTS:
        began = time.perf_counter()
        measured = PARTS[part](asked, options.python)
        found[part] = {"made": made_with(), "seconds": round(time.perf_counter() - began), **measured}
        records.write_text(stored, json.dumps(found, indent=1) + "\n")
    if all(part in found for part in PARTS):
        records.write_text(RESULTS / "gate_power.md", report(found["faults"], found["alarms"]))
    missed = any(row["tier"] != row["found_in"] for row in found.get("faults", {}).get("faults", []))
    return int(missed or any(row["moved"] for row in found.get("alarms", {}).get("exact", [])))


PARTS = {"faults": detections, "alarms": false_alarms}

if __name__ == "__main__":
    sys.exit(main())
