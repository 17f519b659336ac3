"""How many faults the gate finds, in which tier, and how often it cries wolf.

    python benchmarks/gate_power.py                       # faults and false alarms; writes results/gate_power.md
    python benchmarks/gate_power.py --python OTHER ...    # reruns with other interpreters too, e.g. another torch

Faults are planted by replacing one function while the gate measures; the code on disk is never touched.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cl_semisup import labels, plugins, suite  # noqa: E402
from cl_semisup.gate import check, execute, finding, outcome, trajectory  # noqa: E402
from cl_semisup.gate.plan import Plan, plan  # noqa: E402
from cl_semisup.gate.reference import Reference, made_with  # noqa: E402
from cl_semisup.gate.verdict import Verdict  # noqa: E402
from cl_semisup.training import loop, model, momentum, schedule  # noqa: E402
from cl_semisup.views import ViewMaker  # noqa: E402

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
evaluation: {linear: false}
score: knn_top1_labelled
"""
RERUNS = 200


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
    everything = lambda count, device: torch.ones(count, count, dtype=torch.bool, device=device)  # noqa: E731
    stack.enter_context(patch("cl_semisup.losses.nt_xent.others", everything))


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
    stack.enter_context(patch("cl_semisup.contrast.EPS", 1e-2))


@fault("prototypes not orthonormal", "function")
def _(stack: ExitStack) -> None:
    from cl_semisup.prototypes import random_unit

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


@fault("label leak: every label is shown", "trajectory")
def _(stack: ExitStack) -> None:
    right = labels.of_run

    def wrong(true: np.ndarray, asked: Any, *rest: Any, **more: Any) -> Any:
        drawn = right(true, asked, *rest, **more)
        return replace(drawn, shown=np.asarray(true)[drawn.kept])

    stack.enter_context(patch.object(labels, "of_run", wrong))


@fault("momentum encoder stands still", "trajectory")
def _(stack: ExitStack) -> None:
    stack.enter_context(patch.object(momentum, "update", lambda teacher, model, decay: None))


@fault("learning-rate schedule off by one epoch", "trajectory")
def _(stack: ExitStack) -> None:
    wrong = lambda step, steps, each, asked: schedule.factor(min(step + each, steps - 1), steps, each, asked)  # noqa: E731
    stack.enter_context(patch.object(loop, "factor", wrong))


@fault("warm-up ignored", "trajectory")
def _(stack: ExitStack) -> None:
    cold = lambda step, steps, each, asked: schedule.factor(step, steps, each, replace(asked, warmup_epochs=0.0))  # noqa: E731
    stack.enter_context(patch.object(loop, "factor", cold))


@fault("weight decay on or off learned prototypes", "trajectory")
def _(stack: ExitStack) -> None:
    right = loop.parameters

    def wrong(network: nn.Module, loss: Any) -> Any:
        groups = right(network, loss)
        own = {id(p) for p in loss.parameters()} if isinstance(loss, nn.Module) else set()
        other = [[p for p in group if id(p) not in own] for group in groups]
        for group, kept in zip(groups, reversed(other), strict=True):
            kept += [p for p in group if id(p) in own]
        return tuple(other)

    stack.enter_context(patch.object(loop, "parameters", wrong))


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
        right(replace(parts, images=parts.images[:fewer], shown=parts.shown[:fewer]), batch_size=batch_size, **rest)

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
    late = lambda step, *rest: schedule.factor(step, *rest) * (0.01 if step > 25 else 1)  # noqa: E731
    stack.enter_context(patch.object(loop, "factor", late))


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


def exact_references(asked: Plan, seeds: int) -> list[dict[str, Any]]:
    """Trajectories of the first losses over many repetitions, each within its horizon."""
    train, found = trajectory.Trainer(asked.suite.data_dir), []
    for repetition in range(seeds):
        for loss in list(asked.cells)[:4]:
            run = replace(next(iter(asked.cells[loss].values()))[0], repetition=100 + repetition)
            nudged = replace(run, learning_rate=(run.learning_rate or 0) * (1 + trajectory.NUDGE))
            kept = trajectory.within_horizon(train(run), train(nudged))
            found.append({"loss": loss, "repetition": 100 + repetition, "steps": kept.steps, "end": kept.end})
    return found


def exact_reruns(asked: Plan, stored: list[dict[str, Any]]) -> tuple[list[str], float]:
    """What moved among the stored trajectories on this machine, and the largest deviation."""
    train, moved, largest = trajectory.Trainer(asked.suite.data_dir), [], 0.0
    for entry in stored:
        run = replace(next(iter(asked.cells[entry["loss"]].values()))[0], repetition=entry["repetition"])
        now, then = train(run), trajectory.Trajectory(entry["steps"], entry["end"])
        result = trajectory.compare(entry["loss"], "", then, now)
        for row, other in zip(then.steps, now.steps, strict=False):
            largest = max(largest, *map(finding.deviation, row, other))
        if result.verdict == finding.MOVED:
            moved.append(f"{entry['loss']} {entry['repetition']}: {result.quantity} at {result.step}")
    return moved, largest


def environments(pythons: list[str]) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Name, interpreter and environment of every kind of rerun."""
    for threads, simd in ((1, "default"), (2, "avx2"), (2, "")):
        set_ = {"OMP_NUM_THREADS": str(threads)} | ({"ATEN_CPU_CAPABILITY": simd} if simd else {})
        yield f"{threads} thread(s), {simd or 'best'} instructions", [sys.executable], set_
    for python in pythons:
        yield f"interpreter {python}", [python], {"OMP_NUM_THREADS": "1"}


def outcome_pool(asked: Plan, repetitions: int) -> dict[str, dict[str, list[outcome.Ended]]]:
    """Whole runs over many repetitions."""
    cells = {
        loss: {cell: [replace(runs[0], repetition=r) for r in range(repetitions)] for cell, runs in of.items()}
        for loss, of in list(asked.cells.items())[:4]
    }
    return outcome.measure(cells, execute.here(asked.suite.data_dir), 0, repetitions)


def outcome_alarms(pool: dict[str, dict[str, list[outcome.Ended]]], draws: int) -> tuple[int, int]:
    """(gates with any alarm, inconclusive checks) when reference and rerun share no seed: pairing at its worst."""
    random, alarms, open_ = np.random.RandomState(0), 0, 0
    size = len(next(iter(next(iter(pool.values())).values())))
    for _ in range(draws):
        order = random.permutation(size)
        half = [
            {loss: {c: [runs[i] for i in part] for c, runs in of.items()} for loss, of in pool.items()}
            for part in (order[:8], order[8:16])
        ]
        found = outcome.compare(*half)
        alarms += any(f.verdict == finding.MOVED for f in found)
        open_ += sum(f.verdict == finding.INCONCLUSIVE for f in found)
    return alarms, open_


def simulated_alarms(draws: int, tests: int = 40, n: int = 8) -> tuple[float, float]:
    """Share of gates with an alarm, and of 1.5-margin changes found, for Gaussian differences of half a margin."""
    random, margin, alarms, found = np.random.RandomState(1), outcome.SCORE_MARGIN, 0, 0
    for _ in range(draws):
        looks = [random.standard_normal((tests, n)) * margin / 2 for _ in range(2)]
        hit = False
        for differences in looks:  # two looks, as if every loss were in doubt
            tested = [outcome.paired(list(row), margin) for row in differences]
            p = outcome.holm([t.p for t in tested])
            limit = outcome.FALSE_ALARMS / outcome.LOOKS
            hit |= any(a < limit and abs(t.mean) > margin / 2 for a, t in zip(p, tested, strict=True))
        alarms += hit
        shifted = looks[1].copy()
        shifted[0] += 1.5 * margin
        p = outcome.holm([outcome.paired(list(row), margin).p for row in shifted])
        found += p[0] < outcome.FALSE_ALARMS / outcome.LOOKS
    return alarms / draws, found / draws


# report -------------------------------------------------------------------------------------------------------------


def detection_table(asked: Plan) -> tuple[list[str], int]:
    stored = reference_of(asked)
    rows, found = [], 0
    for what in FAULTS:
        began = time.process_time()
        verdict = find(what, asked, stored)
        tier = verdict.moved[0].tier if verdict else "not found"
        found += tier == what.tier
        first = verdict.moved[0] if verdict else None
        said = f"{first.loss}, {first.where or first.quantity}, {100 * first.change:+.2g} %" if first else ""
        rows.append(f"| {what.name} | {what.tier} | {tier} | {said} | {time.process_time() - began:.1f} |")
        print(rows[-1], flush=True)
    return rows, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="another interpreter to rerun with")
    parser.add_argument("--rerun", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    asked = small_plan()
    if options.rerun:
        moved, largest = exact_reruns(asked, json.loads(options.rerun.read_text()))
        print(json.dumps({"moved": moved, "largest": largest, "torch": torch.__version__}))
        return
    began = time.perf_counter()
    rows, found = detection_table(asked)
    seeds = -(-RERUNS // (4 * (3 + len(options.python))))
    stored = ROOT / "benchmarks" / "results" / ".gate_reruns.json"
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(json.dumps(exact_references(asked, seeds)))
    reruns = []
    for name, words, changed in environments(options.python):
        command = [*words, str(Path(__file__)), "--rerun", str(stored)]
        done = subprocess.run(command, env={**os.environ, **changed}, capture_output=True, text=True, check=True)
        said = json.loads(done.stdout.splitlines()[-1])
        reruns.append(f"| {name}, torch {said['torch']} | {4 * seeds} | {len(said['moved'])} | {said['largest']:.0e} |")
        print(reruns[-1], flush=True)
    stored.unlink()
    alarms, open_ = outcome_alarms(outcome_pool(asked, 24), RERUNS)
    size, power = simulated_alarms(2000)
    seconds = time.perf_counter() - began
    text = f"""# What the gate finds, and how often it cries wolf

Made by `python benchmarks/gate_power.py` with torch {torch.__version__} on {platform.machine()} in {seconds:.0f} s.

## Planted faults

{found} of {len(FAULTS)} are found in the tier they belong to. The last column is processor time up to there.

| fault | tier | found in | first finding | s |
|---|---|---|---|---|
{chr(10).join(rows)}

## False alarms

The exact tiers, reference made with one thread; every rerun is another seed or loss of unchanged code:

| rerun with | reruns | alarms | largest deviation |
|---|---|---|---|
{chr(10).join(reruns)}

An alarm needs a deviation of 1e-8.

The outcome tier, {RERUNS} gates of 4 losses with 8 repetitions each, reference and rerun without a common seed (pairing
at its worst; on one machine paired reruns are identical): **{alarms} of {RERUNS}** gates raise an alarm; {open_} checks
of all are inconclusive. Simulated with 2000 gates of 40 checks and two looks, Gaussian differences with a standard
deviation of half the margin: {100 * size:.2f} % raise an alarm, and a change of 1.5 margins in one check is found in
{100 * power:.0f} %.
"""
    (ROOT / "benchmarks" / "results" / "gate_power.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
