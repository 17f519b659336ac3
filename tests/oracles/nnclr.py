from typing import Any

from tests.oracles.loops import Number, Rows, cosine, dot, log_sum_exp, mean, norm
from tests.oracles.simsiam import predict

CASES = [{"queue": 9, "hidden": 6}, {"queue": 4, "hidden": 5, "temperature": 0.4}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    queue: int,
    hidden: int,
    temperature: float = 0.1,
    bank: Rows | None = None,
) -> Number:
    """`loss` is the built loss: the oracle takes its predictor, and without a `bank` the rows that its queue starts with."""
    bank = list(loss.queue.rows) if bank is None else bank
    terms = []
    for rows, other in ((z1, z2), (z2, z1)):
        predictions = predict(other, loss.predictor)
        for i, row in enumerate(rows):
            neighbour = max(bank, key=lambda m: float(cosine(row.detach(), m)))
            logits = [dot(neighbour, p) / norm(p) / temperature for p in predictions]
            terms.append(log_sum_exp(logits) - logits[i])
    return mean(terms)
