"""The trajectory tier: the first 20 steps of training in float64, step by step.

It has two parts. Gradient descent on free embeddings shows what a loss stores between steps. The runs of the suite on
the first images of their data pass through the whole package: views, labels, batches, network, optimizer, schedule,
momentum copy, probes.

The tolerance is fixed; the compared prefix of a trajectory is not, since chaotic training amplifies rounding. When a
reference is made, every trajectory is computed again with a learning rate that differs by 1e-13. The reference keeps
the steps before the two differ by more than 1e-10.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cl_semisup import contract
from cl_semisup.contract import Batch
from cl_semisup.execution.data import Data
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.gate import function
from cl_semisup.gate.float64 import float64
from cl_semisup.gate.function import BuildLoss, projection
from cl_semisup.gate.gate_check import CHANGED, SAME, GateCheck, exact_check, relative_deviation, round_for_storage
from cl_semisup.losses import requirements_of
from cl_semisup.measures.geometry import effective_rank
from cl_semisup.suite.run import Run

STEPS = 20
STEPS_PER_EPOCH = 5  # so few that 20 steps show the schedule
TEST_IMAGES = 200
PERTURBATION, AGREEMENT_RTOL = 1e-13, 1e-10
DESCENT_IMAGES, DESCENT_RATE = 24, 1.0
FREE_EMBEDDINGS = "free embeddings"
QUANTITIES = ("loss", "gradient norm", "gradient", "effective rank")
Row = list[float | None]


@dataclass(frozen=True)
class Trajectory:
    """`steps`: QUANTITIES of each step; `end`: status, scores and diagnostics after training, {} if unpredictable."""

    steps: list[Row]
    end: dict[str, Any] = field(default_factory=dict)


def embedding_descent(build: BuildLoss, classes: int = function.CLASSES, rate: float = DESCENT_RATE) -> Trajectory:
    """Gradient descent on (24, 16) embeddings of two views, a third of them unlabelled."""
    random = np.random.RandomState(8)
    z1 = random.standard_normal((DESCENT_IMAGES, function.DIM))
    z2 = z1 + 0.5 * random.standard_normal(z1.shape)
    z = torch.from_numpy(np.stack([z1, z2])).requires_grad_()
    labels = torch.arange(DESCENT_IMAGES) % classes
    labels[1::3] = -1
    rows = []
    with float64():
        loss = build()
        if isinstance(loss, nn.Module):
            loss.double()
        for _ in range(STEPS):
            batch = Batch(z[0], z[1], labels)
            extras = contract.extra_inputs(requirements_of(loss), batch, torch.arange(DESCENT_IMAGES), classes)
            value = loss(z[0], z[1], labels, **extras)
            (gradient,) = torch.autograd.grad(value, z)
            rank = effective_rank(nn.functional.normalize(z[0].detach(), dim=1))
            rows.append(_row(float(value.detach()), float(gradient.norm()), projection(gradient), float(rank)))
            with torch.no_grad():
                z -= rate * gradient
    return Trajectory(rows)


def predictable_descent(build: BuildLoss, classes: int = function.CLASSES) -> Trajectory:
    """The same, cut to its predictable steps."""
    perturbed = embedding_descent(build, classes, DESCENT_RATE * (1 + PERTURBATION))
    return predictable_steps(embedding_descent(build, classes), perturbed)


class FirstSteps:
    """Executes the first steps of runs in float64; it holds one data set at a time."""

    def __init__(self, data_dir: str):
        with float64():
            self.execute = Executor(Machine("cpu", data_dir))

    def __call__(self, run: Run) -> Trajectory:
        batch_size = run.batch_size or 1
        with float64(), _gradient_projections() as projections:
            data = _first_images(self.execute.data(run), batch_size)
            epochs = -(-STEPS // (len(data.train_images) // batch_size))
            record, curves = self.execute(replace(run, epochs=epochs), data)
        history = curves["history"]
        losses, norms, ranks = (history[name] for name in ("loss", "gradient_norm", "effective_rank"))
        rows = [_row(*numbers) for numbers in zip(losses, norms, projections, ranks, strict=False)][:STEPS]
        end = {"status": record["status"], "reason": record["reason"] if record["status"] == "failed" else ""}
        metrics = {**record["scores"], **record["diagnostics"]}
        return Trajectory(rows, end | {name: round_for_storage(value) for name, value in sorted(metrics.items())})


@contextmanager
def _gradient_projections() -> Iterator[list[float]]:
    """A list that gets one number at every optimizer step inside: the sum of all gradients' fixed projections."""
    projections: list[float] = []

    def append(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        projections.append(sum(projection(p.grad) for p in parameters if p.grad is not None))

    hook = register_optimizer_step_pre_hook(append)
    try:
        yield projections
    finally:
        hook.remove()


def _first_images(data: Data, batch_size: int) -> Data:
    """Five and a half batches to train on, so that a wrongly used incomplete batch shows, and 200 test images."""
    images = min(len(data.train_images), STEPS_PER_EPOCH * batch_size + batch_size // 2)
    return replace(
        data,
        train_images=data.train_images[:images],
        train_labels=data.train_labels[:images],
        test_images=data.test_images[:TEST_IMAGES],
        test_labels=data.test_labels[:TEST_IMAGES],
    )


def _row(*values: float | None) -> Row:
    return [round_for_storage(value) for value in values]


def predictable_steps(trajectory: Trajectory, perturbed: Trajectory) -> Trajectory:
    """The steps of a trajectory before its perturbed copy differs by more than AGREEMENT_RTOL."""
    for step, (row, other) in enumerate(zip(trajectory.steps, perturbed.steps, strict=False)):
        if max(map(relative_deviation, row, other)) > AGREEMENT_RTOL:
            return Trajectory(trajectory.steps[:step])
    ends = [(value, perturbed.end.get(name)) for name, value in trajectory.end.items() if not isinstance(value, str)]
    same_end = all(relative_deviation(a, b) <= AGREEMENT_RTOL for a, b in ends)
    if len(trajectory.steps) != len(perturbed.steps) or not same_end:
        return Trajectory(trajectory.steps[: len(perturbed.steps)])
    return trajectory


def compare(loss: str, where: str, reference: Trajectory, current: Trajectory) -> GateCheck:
    """A check of the first step that differs, or of the end of training; else of the largest deviation anywhere."""
    checks = []
    for step, row in enumerate(reference.steps):
        if step >= len(current.steps):
            reason = current.end.get("reason") or current.end.get("status") or "training ended"
            return GateCheck("trajectory", loss, where, "loss", row[0], None, CHANGED, step=step, note=str(reason))
        check = exact_check(QUANTITIES, row, current.steps[step], tier="trajectory", loss=loss, where=where, step=step)
        if check.status == CHANGED:
            return check
        checks.append(check)
    if reference.end:
        checks.append(_compare_ends(loss, where, reference.end, current.end))
    if not checks:
        return GateCheck("trajectory", loss, where, "loss", None, None, SAME, note="chaotic from the first step on")
    return max(checks, key=lambda check: (check.status == CHANGED, check.status != SAME, abs(check.relative_change)))


def _compare_ends(loss: str, where: str, reference: Mapping[str, Any], current: Mapping[str, Any]) -> GateCheck:
    if reference["status"] != current.get("status"):
        note = f"{reference['status']} before, {current.get('status')} now"
        note += f": {current['reason']}" if current.get("reason") else ""
        return GateCheck("trajectory", loss, where, "status", None, None, CHANGED, step=-1, note=note)
    names = [name for name in {**reference, **current} if name not in ("status", "reason")]
    if not names:
        return GateCheck("trajectory", loss, where, "status", None, None, SAME, step=-1)
    before, after = ([values.get(name) for name in names] for values in (reference, current))
    return exact_check(names, before, after, tier="trajectory", loss=loss, where=where, step=-1)
