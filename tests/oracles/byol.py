from typing import Any

from tests.oracles.loops import Number, Rows, cosine, mean
from tests.oracles.simsiam import predict

CASES = [{"hidden": 6}, {"hidden": 9, "momentum": 0.9}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    momentum_projections: Any,
    hidden: int,
    momentum: float = 0.99,
) -> Number:
    """`loss` is the built loss: the oracle takes its predictor's weights."""
    value = 0
    for z, target in ((z1, momentum_projections[1]), (z2, momentum_projections[0])):
        value = value + mean(2 - 2 * cosine(p, t) for p, t in zip(predict(z, loss.predictor), target, strict=True))
    return value
