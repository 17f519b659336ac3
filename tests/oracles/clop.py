from typing import Any

import torch

from tests.oracles import nt_xent, supcon
from tests.oracles.loops import Number, Rows, cosine, mean, norm, total

CASES = [
    {},
    {"base": "none", "distance": "euclidean", "weight": 0.7},
    {"base": "none", "distance": "manhattan", "prototypes": "simplex_etf"},
    {"base": {"supcon": {"temperature": 0.5}}, "prototypes": "random_unit"},
    {"base": "none", "prototypes": "learned"},
    {"base": "none", "prototypes": "learned", "distance": "euclidean"},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    base: Any = "nt_xent",
    weight: float = 1.0,
    distance: str = "cosine",
    prototypes: str = "orthonormal",
) -> Number:
    """`loss` is the built loss: the oracle reads its prototypes, and tests them elsewhere."""
    terms = []
    for view in (z1, z2):
        for i, label in enumerate(labels or []):
            if label >= 0:
                prototype = loss.prototypes[label].detach().double()
                length = norm(prototype) if prototypes == "learned" else 1
                terms.append(_away(view[i], prototype / length, distance))
    pull = weight * mean(terms) if terms else total(z1[0]) * 0
    if base == "none":
        return pull
    if base == "nt_xent":
        return pull + nt_xent.oracle(z1, z2, labels)
    return pull + supcon.oracle(z1, z2, labels, **base["supcon"])


def _away(row: torch.Tensor, prototype: torch.Tensor, distance: str) -> Number:
    if distance == "cosine":
        return 1 - cosine(row, prototype) * norm(prototype)
    apart = [x / norm(row) - p for x, p in zip(row, prototype, strict=True)]
    return norm(apart) if distance == "euclidean" else total(x.abs() for x in apart)
