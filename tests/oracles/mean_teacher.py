import math

from tests.oracles.fixmatch import Logits, probabilities, supervised
from tests.oracles.loops import Number, Rows, mean

CASES = [
    {},
    {"weight": 3.0, "ramp_up": 0.8},
    {"weight": 2.0, "ramp_up": 0.0, "momentum": 0.5, "last_momentum": 0.9},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    momentum_logits: Logits,
    progress: float,
    weight: float = 100.0,
    ramp_up: float = 0.25,
    momentum: float = 0.99,
    last_momentum: float = 0.999,
) -> Number:
    now = weight
    if progress < ramp_up:
        now = weight * math.exp(-5 * (1 - progress / ramp_up) ** 2)
    sides = []
    for student, teacher in ((logits[0], momentum_logits[1]), (logits[1], momentum_logits[0])):
        squares = []
        for i in range(len(student)):
            p, q = probabilities(student[i]), probabilities(teacher[i].detach())
            squares += [(a - b) ** 2 for a, b in zip(p, q, strict=True)]
        sides.append(supervised(student, labels) + now * mean(squares))
    return mean(sides)
