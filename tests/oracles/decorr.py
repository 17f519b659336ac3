from tests.oracles.loops import Number, Rows, mean, total

CASES = [{}, {"weight": 0.0}, {"weight": 2.0}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, weight: float = 0.1) -> Number:
    count, dim = len(z1), len(z1[0])
    views = []
    for z in (z1, z2):
        columns = []
        for d in range(dim):
            column = [z[i][d] for i in range(count)]
            centre = mean(column)
            spread = (mean((x - centre) ** 2 for x in column) + 1e-5).sqrt()
            columns.append([(x - centre) / spread for x in column])
        views.append(columns)
    value = mean((views[0][d][i] - views[1][d][i]) ** 2 for d in range(dim) for i in range(count))
    for columns in views:
        for d in range(dim):
            for e in range(dim):
                if d != e:
                    correlation = total(x * y for x, y in zip(columns[d], columns[e], strict=True)) / count
                    value = value + weight / 2 / dim * correlation**2
    return value
