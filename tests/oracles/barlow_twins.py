from tests.oracles.loops import Number, Rows, mean, total

CASES = [{}, {"redundancy": 0.3}, {"redundancy": 0.0}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, redundancy: float = 0.0051) -> Number:
    count, dim = len(z1), len(z1[0])
    x, y = _standard(z1), _standard(z2)
    loss = total([])
    for d in range(dim):
        for e in range(dim):
            entry = total(x[d][i] * y[e][i] for i in range(count)) / count
            loss = loss + ((1 - entry) ** 2 if d == e else redundancy * entry**2)
    return loss


def _standard(z: Rows) -> list[list[Number]]:
    """One list a dimension."""
    columns = []
    for d in range(len(z[0])):
        column = [row[d] for row in z]
        centre = mean(column)
        variance = mean((value - centre) ** 2 for value in column)
        columns.append([(value - centre) / (variance + 1e-5).sqrt() for value in column])
    return columns
