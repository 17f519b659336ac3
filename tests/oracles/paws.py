from typing import Any

import torch

from tests.oracles.loops import Number, Rows, cosine, mean, total

CASES = [
    {},
    {"support_per_class": 2, "temperature": 0.5, "label_smoothing": 0.0, "spread_weight": 0.5},
    {"support_per_class": 1, "sharpening": 1.0, "spread_weight": 0.0},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    support: Any,
    support_per_class: int = 8,
    temperature: float = 0.1,
    sharpening: float = 0.25,
    label_smoothing: float = 0.1,
    spread_weight: float = 1.0,
    local_projections: Any = (),
) -> Number:
    """`loss` is the built loss: the oracle reads its number of classes."""
    rows, of = support
    classes = loss.classes

    def guess(z: torch.Tensor) -> list[Number]:
        near = [(cosine(z, row) / temperature).exp() for row in rows]
        shares = []
        for c in range(classes):
            member = [label_smoothing / classes + (1 - label_smoothing) * (int(y) == c) for y in of]
            shares.append(total(n * m for n, m in zip(near, member, strict=True)) / total(near))
        return shares

    def sharp(p: list[Number]) -> list[Number]:
        powers = [x ** (1 / sharpening) for x in p]
        return [x / total(powers) for x in powers]

    terms, sharpened = [], []
    for i in range(len(z1)):
        p1, p2 = guess(z1[i]), guess(z2[i])
        q1, q2 = sharp(p1), sharp(p2)
        sharpened += [q1, q2]
        pairs = [(q2, p1), (q1, p2)]
        for local in local_projections:
            p = guess(local[i])
            sharpened.append(sharp(p))
            pairs.append(([(a + b) / 2 for a, b in zip(q1, q2, strict=True)], p))
        for q, p in pairs:
            terms.append(-total(t.detach() * x.log() for t, x in zip(q, p, strict=True) if t.item() >= 1e-4))
    average = [mean(q[c] for q in sharpened) for c in range(classes)]
    return mean(terms) + spread_weight * total(a * a.log() for a in average)
