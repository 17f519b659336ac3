from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, same_thing

CASES = [{}, {"temperature": 0.2, "positive_in_denominator": True}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    temperature: float = 0.5,
    positive_in_denominator: bool = False,
) -> Number:
    rows, count = [*z1, *z2], len(z1)
    terms = []
    for a in range(2 * count):
        different = [b for b in range(2 * count) if not same_thing(labels, a % count, b % count)]
        if not different:
            continue
        positive = cosine(rows[a], rows[(a + count) % (2 * count)]) / temperature
        below = [cosine(rows[a], rows[b]) / temperature for b in different]
        terms.append(log_sum_exp([*below, positive] if positive_in_denominator else below) - positive)
    return mean(terms)
