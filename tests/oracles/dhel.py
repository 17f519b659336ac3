from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean

CASES = [{}, {"temperature": 0.1, "both_views": False}]


def oracle(
    z1: Rows, z2: Rows, labels: list[int] | None, *, temperature: float = 0.3, both_views: bool = True
) -> Number:
    terms = []
    for i in range(len(z1)):
        others = [j for j in range(len(z1)) if j != i]
        term = -cosine(z1[i], z2[i]) / temperature
        term = term + log_sum_exp(cosine(z1[i], z1[j]) / temperature for j in others)
        if both_views:
            term = term + log_sum_exp(cosine(z2[i], z2[j]) / temperature for j in others)
        terms.append(term)
    return mean(terms)
