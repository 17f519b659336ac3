import torch

from tests.oracles.loops import Number, Rows, mean, total

CASES = [{}, {"invariance": 1.0, "variance": 2.0, "covariance": 3.0, "eps": 0.01}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Number:
    count, dim = len(z1), len(z1[0])
    loss = invariance * mean((z1[i][d] - z2[i][d]) ** 2 for i in range(count) for d in range(dim))
    for z in (z1, z2):
        centre = [mean(z[i][d] for i in range(count)) for d in range(dim)]
        for d in range(dim):
            for e in range(dim):
                products = ((z[i][d] - centre[d]) * (z[i][e] - centre[e]) for i in range(count))
                entry = total(products) / (count - 1)
                if d == e:
                    loss = loss + variance / 2 / dim * torch.clamp(1 - (entry + eps).sqrt(), min=0)
                else:
                    loss = loss + covariance / dim * entry**2
    return loss
