from tests.oracles.loops import Number, Rows, dot, norm, same_thing, total

CASES = [{}, {"unlabelled": "own"}, {"weight": 0.3, "eps": 0.1}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    weight: float = 1.0,
    eps: float = 1e-3,
    unlabelled: str = "out",
) -> Number:
    count = len(z1)
    rows = [[x / norm(row) for x in row] for row in [*z1, *z2]]
    distances: dict[bool, list[Number]] = {True: [], False: []}
    products: dict[bool, list[Number]] = {True: [], False: []}
    kept = [a for a in range(2 * count) if unlabelled == "own" or (labels is not None and labels[a % count] >= 0)]
    if not kept:
        return total(z1[0]) * 0
    for a in kept:
        for b in kept:
            if b <= a:
                continue
            known = same_thing(labels, a % count, b % count)
            distances[known].append(total((x - y) ** 2 for x, y in zip(rows[a], rows[b], strict=True)))
            products[known].append(dot(rows[a], rows[b]) ** 2)
    same = total(distances[True]) / (eps + total(products[True]))
    different = total(products[False]) / (eps + total(distances[False]))
    return same + weight * different
