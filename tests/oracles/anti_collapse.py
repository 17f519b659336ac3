from typing import Any

import torch

from tests.oracles import nt_xent
from tests.oracles.loops import Number, Rows, cosine, dot, mean, norm, total

CASES = [
    {},
    {"sharpness": 3.0, "alignment": 0.5, "weight": 2.0, "rate": 0.5, "eps": 0.2},
    {"form": "linear", "base": "none"},
    {"kind": "pair", "base": "none", "form": "linear", "weight": 0.3},
    {"kind": "pair", "rate": 0.1},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    base: Any = "nt_xent",
    weight: float = 1.0,
    kind: str = "proxy",
    form: str = "exp",
    eps: float = 0.5,
    rate: float = 1.0,
    alignment: float = 0.1,
    sharpness: float = 32.0,
) -> Number:
    """`loss` is the built loss, whose proxies are read."""
    value = nt_xent.oracle(z1, z2, labels) if base == "nt_xent" else total(z1[0]) * 0
    rows, dim = [*z1, *z2], len(z1[0])
    if kind == "pair":
        scale = dim / (len(rows) * eps)
        return value + weight * _falling(rate * _coding_rate(rows, scale), form)
    classes = [*(labels or []), *(labels or [])]
    present = sorted({c for c in classes if c >= 0})
    if not present:
        return value
    proxies = loss.proxies.detach().double()
    scale = len(present) / (dim * eps)
    value = value + weight * _falling(rate * _coding_rate([proxies[c] for c in present], scale), form)
    pulls, pushes = [], []
    for c in range(len(proxies)):
        cosines = [(cosine(row, proxies[c]), label) for row, label in zip(rows, classes, strict=True) if label >= 0]
        if c in present:
            pulls.append((1 + total((-sharpness * (s - 0.1)).exp() for s, label in cosines if label == c)).log())
        pushes.append((1 + total((sharpness * (s + 0.1)).exp() for s, label in cosines if label != c)).log())
    return value + alignment * (mean(pulls) + mean(pushes))


def _falling(rate: Number, form: str) -> Number:
    return (-rate).exp() if form == "exp" else -rate


def _coding_rate(rows: list[torch.Tensor], scale: float) -> Number:
    """1/2 logdet(I + scale U U^T) over the rows' side, by Gaussian elimination."""
    units = [[x / norm(row) for x in row] for row in rows]
    size = len(units)
    matrix = [[(i == j) + scale * dot(units[i], units[j]) for j in range(size)] for i in range(size)]
    value = total([])
    for k in range(size):
        value = value + matrix[k][k].log() / 2
        for i in range(k + 1, size):
            factor = matrix[i][k] / matrix[k][k]
            matrix[i] = [matrix[i][j] - factor * matrix[k][j] for j in range(size)]
    return value
