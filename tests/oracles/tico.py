from typing import Any

from tests.oracles.loops import Number, Rows, cosine, mean, norm, total

CASES = [{}, {"momentum_encoder": False}, {"rho": 3.0, "beta": 0.6, "momentum": 0.9}, {"beta": 0.0}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    rho: float = 8.0,
    beta: float = 0.9,
    momentum_encoder: bool = True,
    momentum: float = 0.99,
    momentum_projections: Any = None,
) -> Number:
    """The first step: the memory is still zero. The covariance is a constant of the gradient."""
    count, dim = len(z1), len(z1[0])
    partner = momentum_projections[1] if momentum_encoder else z2
    u = [row / norm(row) for row in z1]
    held = [row.detach() for row in u]
    covariance = [[(1 - beta) * total(a[d] * a[e] for a in held) / count for e in range(dim)] for d in range(dim)]
    pull = mean(1 - cosine(a, b) for a, b in zip(z1, partner, strict=True))
    push = mean(total(a[d] * covariance[d][e] * a[e] for d in range(dim) for e in range(dim)) for a in u)
    return pull + rho * push
