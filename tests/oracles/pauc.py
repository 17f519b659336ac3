import math
from typing import Any

import numpy as np
import torch

from tests.oracles import nt_xent
from tests.oracles.loops import Number, Rows, dot, log_sum_exp, mean, norm, total

CASES = [
    {},
    {"base": "none", "granularities": 1, "clusters": 2, "uniformity": 0.7, "correlation": 0.9, "redundancy": 0.2},
    {"clusters": 4, "granularities": 2, "weight": 0.5, "alignment": 0.0, "temperature": 0.4},
    {"warmup": 0.9},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    index: torch.Tensor,
    epoch: int,
    progress: float,
    base: Any = "nt_xent",
    clusters: int = 0,
    granularities: int = 2,
    temperature: float = 0.2,
    weight: float = 1.0,
    alignment: float = 1.0,
    uniformity: float = 0.1,
    correlation: float = 0.1,
    redundancy: float = 0.005,
    warmup: float = 0.1,
) -> Number:
    """The first step of a loss: the memory holds this batch. K-means starts from the rows of a seeded order."""
    value = nt_xent.oracle(z1, z2, labels) if base == "nt_xent" else total(z1[0]) * 0
    if progress < warmup:
        return value
    views = [[[x / norm(row) for x in row] for row in z] for z in (z1, z2)]
    by_index = sorted(range(len(z1)), key=lambda i: int(index[i]))
    memory = [_direction([(x + y).item() for x, y in zip(views[0][i], views[1][i], strict=True)]) for i in by_index]
    order = torch.randperm(len(memory), generator=torch.Generator().manual_seed(loss.seed + epoch)).tolist()
    for level in range(granularities):
        wanted = (clusters or 3) * 2**level
        own, centres, phi = _clusters(memory, order[:wanted], temperature)
        of_image = {i: own[place] for place, i in enumerate(by_index)}
        terms = []
        for view in views:
            for i, row in enumerate(view):
                logits = {c: _product(row, centres[c]) / phi[c] for c in centres}
                terms.append(log_sum_exp(logits.values()) - logits[of_image[i]])
        part = weight * mean(terms)
        means = [_batch_means(view, of_image) for view in views]
        part = part + alignment * mean(
            total((x - y) ** 2 for x, y in zip(means[0][c], means[1][c], strict=True)) for c in means[0]
        )
        if len(centres) > 1:
            part = part + uniformity * (_uniformity(means[0]) + _uniformity(means[1])) / 2
            part = part + correlation * _correlation(means[0], means[1], redundancy)
        value = value + part / granularities
    return value


def _direction(row: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def _product(row: list[Number], centre: list[float]) -> Number:
    return total(x * c for x, c in zip(row, centre, strict=True))


def _clusters(
    rows: list[list[float]], start: list[int], temperature: float
) -> tuple[list[int], dict[int, list[float]], dict[int, float]]:
    """(cluster of each row, unit centroid and phi of each cluster that has rows)."""
    centres = [list(rows[i]) for i in start]

    def squared(row: list[float], centre: list[float]) -> float:
        return sum((x - y) ** 2 for x, y in zip(row, centre, strict=True))

    def nearest() -> list[int]:
        return [min(range(len(centres)), key=lambda c: squared(row, centres[c])) for row in rows]

    for _ in range(20):
        own = nearest()
        for c in range(len(centres)):
            members = [row for row, k in zip(rows, own, strict=True) if k == c]
            if members:
                centres[c] = [sum(column) / len(members) for column in zip(*members, strict=True)]
    own = nearest()
    phi, lone = {}, []
    for c in sorted(set(own)):
        distances = [math.sqrt(squared(row, centres[c])) for row, k in zip(rows, own, strict=True) if k == c]
        phi[c] = sum(distances) / len(distances) / math.log(len(distances) + 10)
        if len(distances) == 1:
            lone.append(c)
    if len(lone) == len(phi):
        phi = dict.fromkeys(phi, temperature)
    else:
        largest = max(x for c, x in phi.items() if c not in lone)
        phi |= dict.fromkeys(lone, largest)
        low, high = np.percentile(list(phi.values()), [10, 90])
        phi = {c: min(max(x, low), high) for c, x in phi.items()}
        average = sum(phi.values()) / len(phi)
        phi = {c: temperature * x / average for c, x in phi.items()}
    return own, {c: _direction(centres[c]) for c in phi}, phi


def _batch_means(view: list[list[Number]], of_image: dict[int, int]) -> dict[int, list[Number]]:
    found = {}
    for c in sorted(set(of_image.values())):
        members = [view[i] for i, k in of_image.items() if k == c]
        centre = [mean(member[d] for member in members) for d in range(len(view[0]))]
        found[c] = [x / norm(centre) for x in centre]
    return found


def _uniformity(means: dict[int, list[Number]]) -> Number:
    energies = []
    for c, one in means.items():
        for k, other in means.items():
            if c != k:
                energies.append((-2 * total((x - y) ** 2 for x, y in zip(one, other, strict=True))).exp())
    return mean(energies).log()


def _correlation(first: dict[int, list[Number]], second: dict[int, list[Number]], redundancy: float) -> Number:
    dim = len(next(iter(first.values())))
    columns = []
    for means in (first, second):
        standardised = []
        for d in range(dim):
            column = [row[d] for row in means.values()]
            centre = mean(column)
            spread = (mean((x - centre) ** 2 for x in column) + 1e-5).sqrt()
            standardised.append([(x - centre) / spread for x in column])
        columns.append(standardised)
    value = total([])
    for d in range(dim):
        for e in range(dim):
            entry = dot(columns[0][d], columns[1][e]) / len(first)
            value = value + ((1 - entry) ** 2 if d == e else redundancy * entry**2) / dim
    return value
