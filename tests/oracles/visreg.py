from statistics import NormalDist
from typing import Any

import torch

from tests.oracles.loops import Number, Rows, dot, mean

CASES = [
    {"directions": 3},
    {"directions": 2, "weight": 0.3, "scale": 2.0, "shape": 0.5, "center": 0.1},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    progress: float,
    directions: int,
    weight: float = 0.6,
    scale: float = 1.0,
    shape: float = 1.0,
    center: float = 1.0,
) -> Number:
    """`loss` is the built loss: the oracle takes its directions, and tests them elsewhere."""
    count, dim = len(z1), len(z1[0])
    apart = []
    for i in range(count):
        for d in range(dim):
            middle = (z1[i][d] + z2[i][d]) / 2
            apart += [(z1[i][d] - middle) ** 2, (z2[i][d] - middle) ** 2]
    drawn = loss.directions(torch.stack(list(z1)).detach(), progress)
    quantiles = [NormalDist().inv_cdf(n / (count + 1)) for n in range(1, count + 1)]
    terms = []
    for view in (z1, z2):
        means = [mean(row[d] for row in view) for d in range(dim)]
        deviations = [mean((row[d] - means[d]) ** 2 for row in view).sqrt() for d in range(dim)]
        scales = mean((1 - s) ** 2 for s in deviations)
        centers = mean(m**2 for m in means)
        gaps = []
        for s in range(directions):
            normed = [[(row[d] - means[d]) / (deviations[d].detach() + 1e-4) for d in range(dim)] for row in view]
            projected = sorted((dot(row, drawn[:, s]) for row in normed), key=lambda x: float(x.detach()))
            gaps += [(x - q) ** 2 for x, q in zip(projected, quantiles, strict=True)]
        terms.append(scale * scales + shape * mean(gaps) + center * centers)
    return (1 - weight) * mean(apart) + weight * mean(terms)
