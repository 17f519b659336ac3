from typing import Any

import torch

from tests.oracles import byol, nt_xent
from tests.oracles.loops import Number, Rows, mean, norm

CASES = [
    {},
    {"base": "none", "weight": 0.7, "of": "projections"},
    {"base": {"byol": {"hidden": 8}}, "weight": 0.3},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    base: Any = "nt_xent",
    weight: float = 0.1,
    of: str = "features",
    features: tuple[torch.Tensor, ...] = (),
    momentum_projections: Any = None,
) -> Number:
    views = [list(view) for view in features] if of == "features" else [z1, z2]
    term = _crowding(views[0]) + _crowding(views[1])
    if base == "none":
        return weight * term
    if base == "nt_xent":
        return nt_xent.oracle(z1, z2, labels) + weight * term
    targets = {"loss": loss.base, "momentum_projections": momentum_projections}
    return byol.oracle(z1, z2, labels, **base["byol"], **targets) + weight * term


def _crowding(rows: Rows) -> Number:
    rows = [row / norm(row) for row in rows]
    nearest = []
    for i, row in enumerate(rows):
        distances = [norm([a - b for a, b in zip(row, other, strict=True)]) for j, other in enumerate(rows) if j != i]
        nearest.append(min(distances, key=lambda distance: float(distance.detach())))
    return -mean((distance + 1e-8).log() for distance in nearest)
