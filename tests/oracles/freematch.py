from dataclasses import dataclass

import torch

from tests.oracles.fixmatch import Logits, cross_entropy, probabilities, supervised
from tests.oracles.loops import Number, Rows, mean, total

CASES = [{}, {"weight": 0.3, "fairness": 2.0, "memory": 0.5}, {"memory": 0.0, "fairness": 0.5}]


@dataclass
class Averages:
    """What the loss remembers, before a step; `oracle` replaces it by what it is after the step."""

    confidence: float
    predicted: list[float]
    histogram: list[float]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    weight: float = 1.0,
    fairness: float = 0.01,
    memory: float = 0.999,
    averages: Averages | None = None,
) -> Number:
    weak, strong = logits[0], logits[1]
    count, classes = len(weak), range(len(weak[0]))
    even = float(torch.tensor(1 / len(classes)))  # in single precision, as the loss keeps it
    now = averages or Averages(even, [even] * len(classes), [even] * len(classes))
    p = [[float(x) for x in probabilities(row.detach())] for row in weak]
    best = [max(classes, key=lambda c, row=row: row[c]) for row in p]
    new = memory, 1 - memory
    now.confidence = new[0] * now.confidence + new[1] * sum(max(row) for row in p) / count
    now.predicted = [new[0] * old + new[1] * sum(row[c] for row in p) / count for c, old in enumerate(now.predicted)]
    now.histogram = [new[0] * old + new[1] * best.count(c) / count for c, old in enumerate(now.histogram)]
    sure = [i for i in range(count) if p[i][best[i]] >= now.confidence * now.predicted[best[i]] / max(now.predicted)]
    terms = [cross_entropy(strong[i], best[i]) if i in sure else total(strong[i]) * 0 for i in range(count)]
    loss = supervised(weak, labels) + weight * mean(terms)
    if not sure:
        return loss
    answers = {i: probabilities(strong[i]) for i in sure}
    chosen = [max(classes, key=lambda c, row=answers[i]: float(row[c].detach())) for i in sure]
    wanted = [now.predicted[c] / max(now.histogram[c], 1e-12) for c in classes]
    spread = [
        mean(answers[i][c] for i in sure) / (chosen.count(c) / len(sure)) if c in chosen else total(strong[0]) * 0
        for c in classes
    ]
    q = [x / total(spread) for x in spread]
    return loss + fairness * total(w / sum(wanted) * (x + 1e-12).log() for w, x in zip(wanted, q, strict=True))
