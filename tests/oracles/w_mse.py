from collections.abc import Sequence

from tests.oracles.loops import Number, Rows, cosine, dot, mean, total

CASES = [{}, {"group": 0, "eps": 0.2}, {"group": 3, "eps": 0.01}, {"group": 4}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, group: int = 128, eps: float = 1e-3) -> Number:
    count = len(z1)
    groups = max(1, count // group) if group else 1
    sizes = [count // groups + (g < count % groups) for g in range(groups)]  # the first ones take the rest
    terms, first = [], 0
    for size in sizes:
        w1, w2 = (_white(z[first : first + size], eps) for z in (z1, z2))
        terms += [2 - 2 * cosine(a, b) for a, b in zip(w1, w2, strict=True)]
        first += size
    return mean(terms)


def _white(z: Rows, eps: float) -> list[list[Number]]:
    count, dim = len(z), len(z[0])
    centre = [mean(row[d] for row in z) for d in range(dim)]
    rows = [[row[d] - centre[d] for d in range(dim)] for row in z]
    shrunk = [
        [(1 - eps) * total(row[d] * row[e] for row in rows) / (count - 1) + eps * (d == e) for e in range(dim)]
        for d in range(dim)
    ]
    factor = _cholesky(shrunk)
    white = []
    for row in rows:
        solved: list[Number] = []  # forward substitution
        for d in range(dim):
            solved.append((row[d] - dot(factor[d][:d], solved)) / factor[d][d])
        white.append(solved)
    return white


def _cholesky(matrix: Sequence[Sequence[Number]]) -> list[list[Number]]:
    """Row by row: each entry from the ones before it."""
    factor: list[list[Number]] = []
    for d, row in enumerate(matrix):
        here: list[Number] = []
        for e in range(d + 1):
            above = factor[e] if e < d else here
            rest = row[e] - dot(here[:e], above[:e])
            here.append(rest.sqrt() if e == d else rest / above[e])
        factor.append(here)
    return factor
