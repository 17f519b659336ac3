from typing import Any

import torch

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {},
    {"threshold": 0.4, "temperature": 0.5, "guess_temperature": 1.0},
    {"threshold": 0.5, "guess_temperature": 0.3, "prototype_weight": 0.0, "confident_weight": 2.0},
    {"threshold": 0.0, "unconfident_weight": 0.0},
    {"threshold": 1.0, "guess_temperature": 1.0, "unconfident_weight": 0.2},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    projections: tuple[torch.Tensor, ...],
    temperature: float = 0.1,
    threshold: float = 0.95,
    guess_temperature: float = 0.1,
    prototype_weight: float = 1.0,
    confident_weight: float = 1.0,
    unconfident_weight: float = 1.0,
) -> Number:
    """`loss` is the built loss: the oracle reads its prototypes."""
    prototypes = [p.double() for p in loss.prototypes]
    weak, strong = projections[0], projections[1:]
    entries: list[tuple[torch.Tensor, object, float]] = [(p, c, prototype_weight) for c, p in enumerate(prototypes)]
    for i, label in enumerate(labels or []):
        if label >= 0:
            entries.append((weak[i], label, 1.0))
    for i, row in enumerate(weak):
        near = [float(cosine(row, p).detach()) / guess_temperature for p in prototypes]
        shares = torch.tensor(near, dtype=torch.float64).softmax(dim=0).tolist()
        sure = max(shares) >= threshold
        thing = shares.index(max(shares)) if sure else f"image {i}"
        entries += [(view[i], thing, confident_weight if sure else unconfident_weight) for view in strong]
    terms = []
    for a, (row, thing, weight) in enumerate(entries):
        others = {b: cosine(row, entries[b][0]) / temperature for b in range(len(entries)) if b != a}
        mates = [s for b, s in others.items() if entries[b][1] == thing]
        if mates:
            terms.append(weight * (log_sum_exp(others.values()) - mean(mates)))
    return total(terms) / len(terms)
