import torch

from tests.oracles.loops import Number, Rows, dot, mean, norm

CASES = [{}, {"max_squared_norm": 5.0}, {"max_squared_norm": 1000.0}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, max_squared_norm: float = 1.0) -> Number:
    x, y = ([_cut(row, max_squared_norm) for row in z] for z in (z1, z2))
    count = len(x)
    attraction = mean(dot(x[i], y[i]) for i in range(count))
    repulsion = mean(dot(x[i], y[j]) ** 2 for i in range(count) for j in range(count) if i != j)
    return (repulsion - 2 * attraction) / max_squared_norm


def _cut(row: torch.Tensor, max_squared_norm: float) -> list[Number]:
    longest = max_squared_norm**0.5
    return [x * longest / norm(row) for x in row] if norm(row) > longest else list(row)
