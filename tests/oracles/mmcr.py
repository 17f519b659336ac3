import torch

from tests.oracles.loops import Number, Rows, dot, mean, norm, total

CASES = [{}, {"lmda": 0.3}, {"lmda": 0.005, "normalize": False}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, lmda: float = 0.0, normalize: bool = True) -> Number:
    if normalize:
        z1, z2 = ([row / norm(row) for row in z] for z in (z1, z2))
    centroids = [(a + b) / 2 for a, b in zip(z1, z2, strict=True)]
    return -_nuclear(centroids) + lmda * mean(_nuclear([a, b]) for a, b in zip(z1, z2, strict=True))


def _nuclear(rows: Rows) -> Number:
    """Sum of singular values: roots of the eigenvalues of the smaller Gram matrix."""
    if len(rows) > len(rows[0]):
        rows = [torch.stack([row[d] for row in rows]) for d in range(len(rows[0]))]
    gram = torch.stack([torch.stack([dot(a, b) for b in rows]) for a in rows])
    return total(value.sqrt() for value in torch.linalg.eigvalsh(gram))
