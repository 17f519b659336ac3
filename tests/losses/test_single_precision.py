"""Close rows keep their gradients in single precision: no rounding below a clamp, a root or an exponential."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import contract, contrast, losses, plugins
from cl_semisup.contract import Batch
from cl_semisup.gate.float64 import float64
from cl_semisup.losses import kcl, simo

COUNT, DIM, CLASSES = 12, 8, 4
Rows = Callable[[float], tuple[Tensor, Tensor, Tensor]]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "kcl": [
        {"kernel": name, "t": t}
        for name, t in (("gaussian", 2.0), ("log", 2.0), ("imq", 2.0), ("riesz", -1.0), ("gaussian_riesz", 1.0))
    ],
    "align_uniform": [{}, {"alpha": 1.0}],
    "clop": [{}, {"distance": "euclidean"}],
    "simo": [{}, {"eps": 1e-5}],
}
DRAWS = (
    "adversarial_distribution",
    "asymmetric_adversarial",
    "lejepa",
    "visreg",
)  # random numbers, others in each precision
TOLERANCE = {"lorac": 0.05}  # of eigenvalues; its square root is smooth only above 1e-6
RANKS = ("l_statistic",)  # drops the largest values, and of nearly equal ones rounding decides which these are
CASES = [
    (name, settings) for name in plugins.names("losses") if name not in DRAWS for settings in SETTINGS.get(name, [{}])
]


def close_rows(distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Two views (N, D) in which every image has one at that distance, and so has its other view; and labels."""
    random = torch.Generator().manual_seed(0)
    half = torch.nn.functional.normalize(torch.randn(COUNT // 2, DIM, generator=random, dtype=torch.float64))
    rows = half.repeat(2, 1)
    near = [rows + distance * torch.randn(COUNT, DIM, generator=random, dtype=torch.float64) / DIM**0.5 for _ in "12"]
    z1, z2 = ((2 * view).float().double() for view in near)  # the same numbers in both precisions; far from length 1
    return z1, z2, torch.arange(COUNT // 2).repeat(2) % CLASSES


def crowded_rows(distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Two views (N, D) of which all rows are at that distance from one point; and labels."""
    random = torch.Generator().manual_seed(0)
    point = torch.randn(1, DIM, generator=random, dtype=torch.float64)
    z1, z2 = (point + distance * torch.randn(COUNT, DIM, generator=random, dtype=torch.float64) for _ in "12")
    return z1.float().double(), z2.float().double(), torch.arange(COUNT) % CLASSES


def gradient(
    name: str, settings: dict[str, Any], distance: float, dtype: torch.dtype, rows: Rows = close_rows
) -> Tensor:
    z1, z2, labels = rows(distance)
    torch.manual_seed(0)
    loss = losses.build(name, dim=DIM, classes=CLASSES, seed=0, images=COUNT, **settings)
    loss = loss.to(dtype) if isinstance(loss, nn.Module) else loss
    a, b = z1.to(dtype).requires_grad_(), z2.to(dtype).requires_grad_()
    with float64() if dtype is torch.float64 else nullcontext():
        extras = contract.extra_inputs(losses.requirements_of(loss), Batch(a, b, labels), torch.arange(COUNT), CLASSES)
        value = loss(a, b, labels, **extras)
    if not value.requires_grad:
        return torch.zeros(2, dtype=torch.float64)
    parts = torch.autograd.grad(value, (a, b), allow_unused=True)
    return torch.cat([torch.zeros(COUNT * DIM) if part is None else part.flatten() for part in parts]).double()


@pytest.mark.parametrize("distance", [3e-2, 1e-3, 1e-4])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=[f"{name}-{settings}" for name, settings in CASES])
def test_gradients_of_close_rows_are_those_of_double_precision(
    name: str, settings: dict[str, Any], distance: float
) -> None:
    single = gradient(name, settings, distance, torch.float32)
    double = gradient(name, settings, distance, torch.float64)
    assert (single - double).norm() <= TOLERANCE.get(name, 0.01) * double.norm() + 1e-6


@pytest.mark.parametrize("distance", [3e-2, 1e-3])
@pytest.mark.parametrize(
    ("name", "settings"), [case for case in CASES if case[0] not in RANKS], ids=lambda case: str(case)
)
def test_gradients_of_a_crowd_are_those_of_double_precision(
    name: str, settings: dict[str, Any], distance: float
) -> None:
    """Every row has many close ones, so the nearest, and the cluster, of each is known by small differences alone."""
    single = gradient(name, settings, distance, torch.float32, crowded_rows)
    double = gradient(name, settings, distance, torch.float64, crowded_rows)
    assert (single - double).norm() <= TOLERANCE.get(name, 0.01) * double.norm() + 1e-6


@pytest.mark.parametrize("distance", [3e-2, 3e-4, 3e-6])
@pytest.mark.parametrize(
    "loss",
    [
        kcl.KCL(kernel="gaussian"),
        kcl.KCL(kernel="log"),
        kcl.KCL(kernel="imq"),
        kcl.KCL(kernel="riesz", t=-1.0),
        simo.SimO(),
    ],
    ids=repr,
)
def test_two_close_rows_repel_each_other_as_in_double_precision(loss: Any, distance: float) -> None:
    rows = torch.zeros(2, DIM, dtype=torch.float64)
    rows[:, 0], rows[1, 1] = 1, distance
    pulls = []
    for dtype in (torch.float32, torch.float64):
        z = rows.to(dtype).requires_grad_()
        value = loss(z, z.detach(), torch.tensor([0, 1]))
        pulls.append(torch.autograd.grad(value, z)[0][:, 1:].double())
    limit = 0.01 if distance > kcl.MIN_SQUARED_DISTANCE**0.5 or "riesz" not in repr(loss) else 1.0
    assert (pulls[0] - pulls[1]).norm() <= limit * pulls[1].norm()


def test_distances_are_exact_for_close_rows_and_unchanged_for_others() -> None:
    rows = contrast.unit(torch.cat([torch.eye(4), torch.eye(4) + 3e-4 * torch.ones(4, 4).tril()])).requires_grad_()
    found = contrast.squared_distances(rows)
    exact = (rows[:, None].double() - rows[None].double()).square().sum(dim=2)
    close = exact < contrast.pairs.CLOSE
    assert ((found.double() - exact).abs() <= 1e-5 * exact)[close].all()
    assert torch.equal(found[~close], (2 - 2 * rows @ rows.T)[~close])
    found.sum().backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
