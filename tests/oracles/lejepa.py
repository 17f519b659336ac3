import math
from typing import Any

import torch

from tests.oracles.loops import Number, Rows, dot, mean, total

CASES = [{"directions": 3}, {"directions": 2, "weight": 0.3, "points": 5, "reach": 2.0}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    progress: float,
    directions: int,
    weight: float = 0.02,
    points: int = 17,
    reach: float = 3.0,
) -> Number:
    """`loss` is the built loss: the oracle takes its directions, and tests them elsewhere."""
    count, dim = len(z1), len(z1[0])
    apart = []
    for i in range(count):
        for d in range(dim):
            centre = (z1[i][d] + z2[i][d]) / 2
            apart += [(z1[i][d] - centre) ** 2, (z2[i][d] - centre) ** 2]
    drawn = loss.directions(torch.stack(list(z1)).detach(), progress)
    statistics = [
        _statistic([dot(row, drawn[:, s]) for row in view], points, reach)
        for view in (z1, z2)
        for s in range(directions)
    ]
    return (1 - weight) * mean(apart) + weight * mean(statistics)


def _statistic(sample: list[Number], points: int, reach: float) -> Number:
    """The trapezoidal rule over [-reach, reach], not folded to its half."""
    step, integral = reach / (points - 1), total([])
    for number in range(-(points - 1), points):
        at = number * step
        real, imaginary = mean((at * x).cos() for x in sample), mean((at * x).sin() for x in sample)
        gap = (real - math.exp(-(at**2) / 2)) ** 2 + imaginary**2
        half = 0.5 if abs(number) == points - 1 else 1.0
        integral = integral + half * step * gap * math.exp(-(at**2) / 2)
    return len(sample) * integral
