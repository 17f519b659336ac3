"""The function tier: a loss's value and its gradient on fixed inputs, in float64.

Inputs come from numpy's RandomState, whose stream is frozen (NEP 19). The gradient is kept as its norm and a fixed
projection for each view: the norm misses a turn, a projection a change at a right angle, both together neither.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from cl_semisup import contract
from cl_semisup.contract import Batch
from cl_semisup.gate.finding import MOVED, Finding, exact, rounded
from cl_semisup.gate.float64 import float64
from cl_semisup.losses import Loss, asks

IMAGES, DIM, CLASSES = 12, 16, 4
QUANTITIES = ("value", "gradient to z1, norm", "gradient to z1", "gradient to z2, norm", "gradient to z2")
Build = Callable[[], Loss]
Values = dict[str, list[float | None]]  # input -> QUANTITIES


def inputs() -> dict[str, Batch]:
    """Batches that make different faults visible, 12 images in 16 dimensions each."""
    random = np.random.RandomState(7)
    z1 = torch.from_numpy(random.standard_normal((IMAGES, DIM)))
    z2 = z1 + 0.5 * torch.from_numpy(random.standard_normal((IMAGES, DIM)))
    every = torch.arange(IMAGES) % CLASSES
    some = every.clone()
    some[1::3] = -1
    one = z1[:1]
    return {
        "some labels": Batch(z1, z2, some),
        "all labels": Batch(z1, z2, every),
        "no labels": Batch(z1, z2, None),
        "nearly one point": Batch(one + 0.01 * z1, one + 0.01 * z2, some),
        "short rows": Batch(1e-4 * z1, 1e-4 * z2, some),
    }


def measure(build: Build, classes: int = CLASSES) -> Values:
    """Input -> value, and norm and fixed projection of the gradient to each view, of a newly built loss."""
    with float64():
        return {name: _of_batch(build, batch, classes) for name, batch in inputs().items()}


def compare(loss: str, then: Mapping[str, list[float | None]], now: Values) -> list[Finding]:
    """One finding an input."""
    absent: list[float | None] = [None] * len(QUANTITIES)
    found = [
        exact(QUANTITIES, then.get(name, absent), now.get(name, absent), tier="function", loss=loss, where=name)
        for name in {**then, **now}
    ]
    return found or [Finding("function", loss, "", "value", None, None, MOVED, note="nothing was measured")]


def _of_batch(build: Build, batch: Batch, classes: int) -> list[float | None]:
    loss = build()
    if isinstance(loss, nn.Module):
        loss.double()
    z1, z2 = batch.z1.clone().requires_grad_(), batch.z2.clone().requires_grad_()
    seen = Batch(z1, z2, batch.labels)
    value = loss(z1, z2, batch.labels, **contract.provide(asks(loss), seen, torch.arange(len(z1)), classes))
    gradients = torch.autograd.grad(value, (z1, z2), allow_unused=True) if value.requires_grad else (None, None)
    row = [float(value.detach())]
    for gradient in gradients:
        row += [0.0, 0.0] if gradient is None else [float(gradient.norm()), projection(gradient)]
    return [rounded(v) for v in row]


def projection(gradient: Tensor) -> float:
    """The gradient along a fixed direction that depends on nothing but its size."""
    direction = np.random.RandomState(gradient.numel() % 2**32).standard_normal(gradient.numel())
    along = torch.from_numpy(direction / np.linalg.norm(direction))
    return float(gradient.detach().double().cpu().flatten() @ along)
