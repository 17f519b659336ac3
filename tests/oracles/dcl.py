from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean

CASES = [{}, {"temperature": 0.5}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, temperature: float = 0.1) -> Number:
    rows, count = [*z1, *z2], len(z1)
    terms = []
    for a in range(2 * count):
        partner = (a + count) % (2 * count)
        negatives = [cosine(rows[a], rows[b]) / temperature for b in range(2 * count) if b not in (a, partner)]
        terms.append(log_sum_exp(negatives) - cosine(rows[a], rows[partner]) / temperature)
    return mean(terms)
