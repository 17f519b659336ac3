from typing import Any

from tests.oracles.loops import Number, Rows, cosine, mean, total

CASES: list[dict[str, Any]] = [{}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, loss: Any) -> Number:
    """`loss` is the built loss: the oracle reads its corners; what they are is tested elsewhere."""
    terms = []
    for view in (z1, z2):
        for i, label in enumerate(labels or []):
            if label >= 0:
                corner = loss.prototypes[label].double()
                reached = cosine(view[i], corner) * total(x * x for x in corner).sqrt()
                terms.append((reached - 1) ** 2 / 2)
    return mean(terms) if terms else total(z1[0]) * 0
