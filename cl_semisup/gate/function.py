"""The function tier: a loss's value and its gradient on fixed inputs, in float64.

Inputs come from numpy's RandomState, whose stream is frozen (NEP 19). The gradient to each view is stored as its norm
and its projection on a fixed direction: the norm does not see a rotation, the projection does not see a change that is
orthogonal to the direction. Only a change that is both goes unnoticed.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from cl_semisup import contract
from cl_semisup.contract import Batch
from cl_semisup.gate.float64 import float64
from cl_semisup.gate.gate_check import CHANGED, GateCheck, exact_check, round_for_storage
from cl_semisup.losses import Loss, requirements_of

IMAGES, DIM, CLASSES = 12, 16, 4
QUANTITIES = ("value", "gradient to z1, norm", "gradient to z1", "gradient to z2, norm", "gradient to z2")
BuildLoss = Callable[[], Loss]
Values = dict[str, list[float | None]]  # input -> one number for each of QUANTITIES


def fixed_inputs() -> dict[str, Batch]:
    """Batches of 12 images in 16 dimensions, each of which shows other faults."""
    random = np.random.RandomState(7)
    z1 = torch.from_numpy(random.standard_normal((IMAGES, DIM)))
    z2 = z1 + 0.5 * torch.from_numpy(random.standard_normal((IMAGES, DIM)))
    all_labels = torch.arange(IMAGES) % CLASSES
    some_labels = all_labels.clone()
    some_labels[1::3] = -1
    point = z1[:1]
    return {
        "some labels": Batch(z1, z2, some_labels),
        "all labels": Batch(z1, z2, all_labels),
        "no labels": Batch(z1, z2, None),
        "nearly one point": Batch(point + 0.01 * z1, point + 0.01 * z2, some_labels),
        "short rows": Batch(1e-4 * z1, 1e-4 * z2, some_labels),
    }


def measure(build: BuildLoss, classes: int = CLASSES) -> Values:
    """QUANTITIES of a newly built loss on every fixed input."""
    with float64():
        return {name: _measure_batch(build, batch, classes) for name, batch in fixed_inputs().items()}


def compare(loss: str, reference: Mapping[str, list[float | None]], current: Values) -> list[GateCheck]:
    """One check for each input."""
    missing: list[float | None] = [None] * len(QUANTITIES)
    checks = [
        exact_check(
            QUANTITIES, reference.get(name, missing), current.get(name, missing), tier="function", loss=loss, where=name
        )
        for name in {**reference, **current}
    ]
    return checks or [GateCheck("function", loss, "", "value", None, None, CHANGED, note="nothing was measured")]


def _measure_batch(build: BuildLoss, batch: Batch, classes: int) -> list[float | None]:
    loss = build()
    if isinstance(loss, nn.Module):
        loss.double()
    z1, z2 = batch.z1.clone().requires_grad_(), batch.z2.clone().requires_grad_()
    extras = contract.extra_inputs(requirements_of(loss), Batch(z1, z2, batch.labels), torch.arange(len(z1)), classes)
    value = loss(z1, z2, batch.labels, **extras)
    gradients = torch.autograd.grad(value, (z1, z2), allow_unused=True) if value.requires_grad else (None, None)
    row = [float(value.detach())]
    for gradient in gradients:
        row += [0.0, 0.0] if gradient is None else [float(gradient.norm()), projection(gradient)]
    return [round_for_storage(number) for number in row]


def projection(gradient: Tensor) -> float:
    """Component of the gradient along a fixed random direction, which depends on the number of elements only."""
    direction = np.random.RandomState(gradient.numel() % 2**32).standard_normal(gradient.numel())
    unit = torch.from_numpy(direction / np.linalg.norm(direction))
    return float(gradient.detach().double().cpu().flatten() @ unit)
