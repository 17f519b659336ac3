import torch

from tests.oracles.loops import Number, Rows, mean, norm

CASES = [{}, {"align_weight": 0.5, "uniform_weight": 3.0, "alpha": 1.0, "t": 0.7}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    align_weight: float = 1.0,
    uniform_weight: float = 1.0,
    alpha: float = 2.0,
    t: float = 2.0,
) -> Number:
    count = len(z1)
    loss = align_weight * mean(_distance(z1[i], z2[i]) ** alpha for i in range(count))
    for z in (z1, z2):
        potential = mean((-t * _distance(z[i], z[j]) ** 2).exp() for j in range(count) for i in range(j))
        loss = loss + uniform_weight * potential.log() / 2
    return loss


def _distance(a: torch.Tensor, b: torch.Tensor) -> Number:
    return norm([x / norm(a) - y / norm(b) for x, y in zip(a, b, strict=True)])
