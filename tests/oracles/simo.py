from tests.oracles.loops import Number, Rows, dot, norm, same_thing, total

CASES = [{}, {"unlabelled": "own"}, {"eps": 0.3}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, eps: float = 1e-3, unlabelled: str = "out") -> Number:
    count = len(z1)
    rows = [[x / norm(row) for x in row] for row in [*z1, *z2]]
    kept = [a for a in range(2 * count) if unlabelled == "own" or (labels is not None and labels[a % count] >= 0)]
    if not kept:
        return total(z1[0]) * 0
    terms = []
    for a in kept:
        for b in kept:
            if b <= a:
                continue
            distance = total((x - y) ** 2 for x, y in zip(rows[a], rows[b], strict=True))
            alike = 2**0.5 * dot(rows[a], rows[b]) ** 2 / (eps + distance)
            terms.append(1 / (1 + alike) if same_thing(labels, a % count, b % count) else alike)
    return total(terms) / len(kept)
