from typing import Any

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total
from tests.oracles.normface import labelled, weights

CASES = [{}, {"temperature": 0.5, "negatives": "classes"}, {"temperature": 0.2, "negatives": "both"}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    temperature: float = 0.1,
    negatives: str = "images",
) -> Number:
    rows, w = labelled(z1, z2, labels), weights(loss)
    terms = []
    for row, label in rows:
        logits = []
        if negatives != "classes":
            logits += [cosine(other, w[label]) / temperature for other, y in rows if y != label]
        if negatives != "images":
            logits += [cosine(row, w[c]) / temperature for c in range(len(w)) if c != label]
        if logits:
            terms.append(log_sum_exp(logits) - cosine(row, w[label]) / temperature)
    return mean(terms) if terms else total(z1[0]) * 0
