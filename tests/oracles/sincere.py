from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, same_thing

CASES = [{}, {"temperature": 0.5}]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, temperature: float = 0.1) -> Number:
    rows, count = [*z1, *z2], len(z1)
    anchors = []
    for a in range(2 * count):

        def logit(b: int, a: int = a) -> Number:
            return cosine(rows[a], rows[b]) / temperature

        others = [b for b in range(2 * count) if b != a]
        positives = [b for b in others if same_thing(labels, a % count, b % count)]
        negatives = [logit(b) for b in others if b not in positives]
        anchors.append(mean(log_sum_exp([logit(p), *negatives]) - logit(p) for p in positives))
    return mean(anchors)
