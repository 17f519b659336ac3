from itertools import permutations
from typing import Any

import torch

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, same_thing, total

CASES = [{}, {"temperature": 0.5, "weight": 0.3, "memory": 0.2}, {"weight": 0.0}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    temperature: float = 0.1,
    weight: float = 1.0,
    memory: float = 0.9,
) -> Number:
    """`loss` is the built loss, not yet used: its targets, and the mean directions that it starts with."""
    rows, count = [*z1, *z2], len(z1)
    targets, directions = [t.clone() for t in loss.targets], [c.clone() for c in loss.centroids]
    for label in {y for y in labels or [] if y >= 0}:
        members = [rows[a].detach() for a in range(2 * count) if labels and labels[a % count] == label]
        batch = total(m / m.norm() for m in members)
        moved = memory * directions[label] + (1 - memory) * batch / batch.norm()
        directions[label] = moved / moved.norm()
    classes = range(len(targets))
    own = max(permutations(classes), key=lambda p: float(sum(directions[c] @ targets[p[c]] for c in classes)))
    anchors = []
    for a in range(2 * count):
        label = labels[a % count] if labels else -1
        others = [b for b in range(2 * count) if b != a]
        positives = [b for b in others if same_thing(labels, a % count, b % count)]
        near = [cosine(rows[a], rows[b]) / temperature for b in others]
        far = [_dot(rows[a], t) / temperature for t in targets]
        whole = log_sum_exp([*near, *far])
        terms = [whole - cosine(rows[a], rows[b]) / temperature for b in positives]
        wanted = weight * (label >= 0)
        aim = wanted * (whole - far[own[label]]) if label >= 0 else 0 * whole
        anchors.append((total(terms) + aim) / (len(positives) + wanted))
    return mean(anchors)


def _dot(row: torch.Tensor, target: torch.Tensor) -> Number:
    """The cosine with a target, whose length is 1 up to its single precision."""
    return cosine(row, target) * (target @ target).sqrt()
