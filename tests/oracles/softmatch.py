from dataclasses import dataclass
from math import exp

import torch

from tests.oracles.fixmatch import Logits, cross_entropy, probabilities, supervised
from tests.oracles.loops import Number, Rows, mean

CASES = [{}, {"weight": 0.3, "sigmas": 1.0, "memory": 0.5}, {"align": False, "memory": 0.2}]


@dataclass
class Averages:
    """What the loss remembers, before a step; `oracle` replaces it by what it is after the step."""

    mean: float
    variance: float
    predicted: list[float] | None  # None before the first batch


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    weight: float = 1.0,
    sigmas: float = 2.0,
    memory: float = 0.999,
    align: bool = True,
    averages: Averages | None = None,
) -> Number:
    weak, strong = logits[0], logits[1]
    count, classes = len(weak), range(len(weak[0]))
    even = float(torch.tensor(1 / len(classes)))  # in single precision, as the loss keeps it
    now = averages or Averages(even, 1.0, None)
    p = [[float(x) for x in probabilities(row.detach())] for row in weak]
    best = [max(classes, key=lambda c, row=row: row[c]) for row in p]
    means = [sum(row[c] for row in p) / count for c in classes]
    before = now.predicted or means
    now.predicted = [memory * old + (1 - memory) * new for old, new in zip(before, means, strict=True)]
    if align:
        p = [[x / (len(classes) * now.predicted[c]) for c, x in enumerate(row)] for row in p]
        p = [[x / sum(row) for x in row] for row in p]
    confidence = [max(row) for row in p]
    average = sum(confidence) / count
    now.mean = memory * now.mean + (1 - memory) * average
    spread = sum((x - average) ** 2 for x in confidence) / (count - 1)
    now.variance = memory * now.variance + (1 - memory) * spread
    terms = []
    for i in range(count):
        below = min(confidence[i] - now.mean, 0.0)
        factor = exp(-(below**2) / (2 * now.variance / sigmas**2))
        terms.append(factor * cross_entropy(strong[i], best[i]))
    return supervised(weak, labels) + weight * mean(terms)
