from typing import Any

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total
from tests.oracles.normface import labelled, weights

CASES = [{}, {"temperature": 0.5}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, loss: Any, temperature: float = 0.1) -> Number:
    rows, w = labelled(z1, z2, labels), weights(loss)
    terms = []
    for row, label in rows:
        over_batch = [cosine(other, w[label]) / temperature for other, _ in rows]
        terms.append(log_sum_exp(over_batch) - cosine(row, w[label]) / temperature)
    return mean(terms) if terms else total(z1[0]) * 0
