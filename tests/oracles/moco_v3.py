from typing import Any

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean
from tests.oracles.simsiam import predict

CASES = [{"hidden": 6}, {"hidden": 9, "temperature": 0.7, "momentum": 0.9}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    momentum_projections: Any,
    hidden: int,
    temperature: float = 0.2,
    momentum: float = 0.99,
) -> Number:
    """`loss` is the built loss: the oracle takes its predictor's weights."""
    value = 0
    for z, keys in ((z1, momentum_projections[1]), (z2, momentum_projections[0])):
        terms = []
        for i, query in enumerate(predict(z, loss.predictor)):
            logits = [cosine(query, key) / temperature for key in keys]
            terms.append(log_sum_exp(logits) - logits[i])
        value = value + 2 * temperature * mean(terms)
    return value
