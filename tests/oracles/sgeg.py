import torch

from tests.oracles.loops import Number, Rows, dot, mean, total

CASES = [{}, {"weight": 0.1, "eps": 1e-8}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, weight: float = 1.0, eps: float = 1e-4) -> Number:
    count, dim = len(z1), len(z1[0])
    x, y = _standard(z1), _standard(z2)
    loss = -mean(dot(x[i], y[i]) for i in range(count))
    for view in (x, y):
        # The covariance's eigenvalues are the squared singular values of the standardised rows.
        singular = torch.linalg.svdvals(torch.stack([torch.stack(row) for row in view]))
        eigenvalues = [s**2 / (count - 1) for s in singular] + [torch.zeros(())] * (dim - len(singular))
        loss = loss + weight / 2 * -2 * total((value + eps).sqrt() for value in eigenvalues)
    return loss


def _standard(z: Rows) -> list[list[Number]]:
    count, dim = len(z), len(z[0])
    centre = [mean(row[d] for row in z) for d in range(dim)]
    variance = [total((row[d] - centre[d]) ** 2 for row in z) / (count - 1) for d in range(dim)]
    return [[(row[d] - centre[d]) / (variance[d] + 1e-8).sqrt() for d in range(dim)] for row in z]
