"""The trajectory tier: the first 20 steps of training in float64, step by step.

Twice: plain gradient descent on free embeddings, which sees what a loss remembers between steps, and the runs of the
suite on the first images of their data, which pass through all of the package: views, labels, batches, network,
optimizer, schedule, momentum copy, probes.

The horizon is the knob, not the tolerance: where training is chaotic, rounding grows. When a reference is made every
trajectory is run again with a learning rate that differs by 1e-13, and kept for as long as the two agree to 1e-10.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cl_semisup import contract
from cl_semisup.contract import Batch
from cl_semisup.execution.data import Data
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.gate import function
from cl_semisup.gate.finding import MOVED, Finding, deviation, exact, rounded
from cl_semisup.gate.float64 import float64
from cl_semisup.gate.function import Build, projection
from cl_semisup.losses import asks
from cl_semisup.measures.geometry import effective_rank
from cl_semisup.suite.run import Run

STEPS = 20
STEPS_PER_EPOCH = 5  # so that a schedule shows within the horizon
TEST_IMAGES = 200
NUDGE, AGREED = 1e-13, 1e-10
FREE_IMAGES, FREE_RATE = 24, 1.0
FREE = "free embeddings"
QUANTITIES = ("loss", "gradient norm", "gradient", "effective rank")
Row = list[float | None]


@dataclass(frozen=True)
class Trajectory:
    """`steps`: QUANTITIES of each; `end`: status, scores and diagnostics after training, {} beyond the horizon."""

    steps: list[Row]
    end: dict[str, Any] = field(default_factory=dict)


# free embeddings ----------------------------------------------------------------------------------------------------


def free(build: Build, classes: int = function.CLASSES, rate: float = FREE_RATE) -> Trajectory:
    """Gradient descent on (24, 16) embeddings of two views, a third of them unlabelled."""
    random = np.random.RandomState(8)
    z1 = random.standard_normal((FREE_IMAGES, function.DIM))
    z2 = z1 + 0.5 * random.standard_normal(z1.shape)
    z = torch.from_numpy(np.stack([z1, z2])).requires_grad_()
    labels = torch.arange(FREE_IMAGES) % classes
    labels[1::3] = -1
    rows = []
    with float64():
        loss = build()
        if isinstance(loss, nn.Module):
            loss.double()
        for _ in range(STEPS):
            batch = Batch(z[0], z[1], labels)
            needs = contract.provide(asks(loss), batch, torch.arange(FREE_IMAGES), classes)
            value = loss(z[0], z[1], labels, **needs)
            (gradient,) = torch.autograd.grad(value, z)
            rank = effective_rank(nn.functional.normalize(z[0].detach(), dim=1))
            rows.append(_row(float(value.detach()), float(gradient.norm()), projection(gradient), float(rank)))
            with torch.no_grad():
                z -= rate * gradient
    return Trajectory(rows)


# the suite's runs ---------------------------------------------------------------------------------------------------


class Trainer:
    """Executes the first steps of runs in float64, one data set loaded at a time."""

    def __init__(self, data_dir: str):
        with float64():
            self.execute = Executor(Machine("cpu", data_dir))

    def __call__(self, run: Run) -> Trajectory:
        with float64(), _gradients() as along:
            data = _part(self.execute.data(run), run.batch_size or 1)
            epochs = -(-STEPS // (len(data.train_images) // (run.batch_size or 1)))
            record, curves = self.execute(replace(run, epochs=epochs), data)
        history = curves["history"]
        names = ("loss", "gradient_norm", "effective_rank")
        rows = [_row(a, b, p, c) for a, b, c, p in zip(*(history[n] for n in names), along, strict=False)][:STEPS]
        end = {"status": record["status"], "reason": record["reason"] if record["status"] == "failed" else ""}
        measured = {**record["scores"], **record["diagnostics"]}
        return Trajectory(rows, end | {name: rounded(value) for name, value in sorted(measured.items())})


@contextmanager
def _gradients() -> Iterator[list[float]]:
    """Collects, at every optimizer step inside, the sum of all gradients' fixed projections."""
    along: list[float] = []

    def watch(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        moved: Sequence[Tensor] = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        along.append(sum(projection(gradient) for gradient in moved))

    hook = register_optimizer_step_pre_hook(watch)
    try:
        yield along
    finally:
        hook.remove()


def _part(data: Data, batch_size: int) -> Data:
    """The first images: five and a half batches to train on, so that a kept last batch would show."""
    images = min(len(data.train_images), STEPS_PER_EPOCH * batch_size + batch_size // 2)
    return replace(
        data,
        train_images=data.train_images[:images],
        train_labels=data.train_labels[:images],
        test_images=data.test_images[:TEST_IMAGES],
        test_labels=data.test_labels[:TEST_IMAGES],
    )


def _row(*values: float | None) -> Row:
    return [rounded(v) for v in values]


# comparison ---------------------------------------------------------------------------------------------------------


def within_horizon(one: Trajectory, nudged: Trajectory) -> Trajectory:
    """The part of a trajectory that rounding does not reach: up to the first step at which a nudge has grown."""
    for step, (row, other) in enumerate(zip(one.steps, nudged.steps, strict=False)):
        if max(map(deviation, row, other)) > AGREED:
            return Trajectory(one.steps[:step])
    ends = [(value, nudged.end.get(name)) for name, value in one.end.items() if not isinstance(value, str)]
    if len(one.steps) != len(nudged.steps) or any(deviation(a, b) > AGREED for a, b in ends):
        return Trajectory(one.steps[: len(nudged.steps)])
    return one


def compare(loss: str, where: str, then: Trajectory, now: Trajectory) -> Finding:
    """The first step at which they differ, or the end of training; else the largest deviation anywhere."""
    findings = []
    for step, row in enumerate(then.steps):
        if step >= len(now.steps):
            reason = now.end.get("reason") or now.end.get("status") or "training ended"
            return Finding("trajectory", loss, where, "loss", row[0], None, MOVED, step=step, note=str(reason))
        finding = exact(QUANTITIES, row, now.steps[step], tier="trajectory", loss=loss, where=where, step=step)
        if finding.verdict == MOVED:
            return finding
        findings.append(finding)
    if then.end:
        findings.append(_compare_ends(loss, where, then.end, now.end))
    if not findings:
        return Finding("trajectory", loss, where, "loss", None, None, "same", note="chaotic from the first step on")
    return max(findings, key=lambda f: (f.verdict == MOVED, abs(f.change)))


def _compare_ends(loss: str, where: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Finding:
    if then["status"] != now.get("status"):
        words = f"{then['status']} before, {now.get('status')} now"
        why = f": {now['reason']}" if now.get("reason") else ""
        return Finding("trajectory", loss, where, "status", None, None, MOVED, step=-1, note=words + why)
    names = [name for name in then if name not in ("status", "reason") and name in now]  # a new probe is no change
    if not names:
        return Finding("trajectory", loss, where, "status", None, None, "same", step=-1)
    before, after = ([values[name] for name in names] for values in (then, now))
    return exact(names, before, after, tier="trajectory", loss=loss, where=where, step=-1)
