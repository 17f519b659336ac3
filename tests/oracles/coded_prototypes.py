from typing import Any

from tests.oracles import nt_xent
from tests.oracles.loops import Number, Rows, cosine, dot, log_sum_exp, mean, total

CASES = [
    {},
    {"pull": "cosine", "weight": 0.5, "base": "nt_xent"},
    {"base": {"nt_xent": {"temperature": 0.5}}, "weight": 2.0},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    base: Any = "none",
    weight: float = 1.0,
    pull: str = "cross_entropy",
) -> Number:
    """`loss` is the built loss: the oracle reads its prototypes, which are tested elsewhere."""
    codes = [row.double() for row in loss.prototypes]
    terms = []
    for view in (z1, z2):
        for row, label in zip(view, labels or [], strict=False):
            if label >= 0 and pull == "cosine":
                terms.append(1 - cosine(row, codes[label]))
            elif label >= 0:
                scores = [dot(row, code) for code in codes]
                terms.append(log_sum_exp(scores) - scores[label])
    pulled = weight * mean(terms) if terms else total(z1[0]) * 0
    if base == "none":
        return pulled
    return pulled + nt_xent.oracle(z1, z2, labels, **(base["nt_xent"] if isinstance(base, dict) else {}))
