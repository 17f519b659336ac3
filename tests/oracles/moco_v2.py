from typing import Any

from tests.oracles.loops import Number, Rows, cosine, dot, log_sum_exp, mean, norm

CASES = [
    {"queue": 40},
    {"temperature": 0.1, "queue": 9, "momentum": 0.9},
    {"queue": 5, "symmetric": True},  # fewer than a batch's keys
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    momentum_projections: Any,
    temperature: float = 0.2,
    queue: int = 4096,
    symmetric: bool = False,
    momentum: float = 0.99,
) -> Number:
    """`loss` is the built loss, not yet used: the oracle takes the random rows that its queue starts with."""
    values = []
    for queries, keys in ((z1, momentum_projections[1]), (z2, momentum_projections[0])):
        terms = []
        for query, key in zip(queries, keys, strict=True):
            own = cosine(query, key) / temperature
            others = [dot(query, row) / norm(query) / temperature for row in loss.queue]
            terms.append(log_sum_exp([own, *others]) - own)
        values.append(mean(terms))
    return mean(values) if symmetric else values[0]
