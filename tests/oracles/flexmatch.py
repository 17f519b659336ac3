from typing import Any

import torch

from tests.oracles.fixmatch import Logits, cross_entropy, probabilities, supervised
from tests.oracles.loops import Number, Rows, mean, total

CASES = [{}, {"threshold": 0.5, "weight": 0.3}, {"threshold": 0.0}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    index: torch.Tensor,
    threshold: float = 0.95,
    weight: float = 1.0,
    selected: list[int] | None = None,
    **_: Any,
) -> Number:
    """`selected`: class of every training image's last confident prediction before this step."""
    weak, strong = logits[0], logits[1]
    selected = [-1] * 12 if selected is None else selected
    classes = range(len(weak[0]))
    counts = [selected.count(c) for c in classes]
    most = max(*counts, selected.count(-1))
    terms = []
    for i in range(len(weak)):
        p = [float(x) for x in probabilities(weak[i].detach())]
        best = max(classes, key=lambda c: p[c])
        share = counts[best] / most
        sure = p[best] >= threshold * share / (2 - share)
        terms.append(cross_entropy(strong[i], best) if sure else total(strong[i]) * 0)
    return supervised(weak, labels) + weight * mean(terms)
