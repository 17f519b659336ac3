import torch

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, same_thing, total

CASES = [{}, {"temperature": 0.3, "beta": 0.5}, {"beta": 0.0}, {"queue": 6, "temperature": 0.2, "momentum": 0.9}]

Queue = list[tuple[torch.Tensor, int]]  # keys with their labels


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    momentum_projections: object = None,
    temperature: float = 0.07,
    beta: float = 8.0,
    queue: int = 0,
    momentum: float = 0.99,
    remembered: Queue | None = None,
) -> Number:
    """`remembered`: the keys of earlier steps; a loss just built has none."""
    rows, count = [*z1, *z2], len(z1)
    anchors = []
    for a in range(2 * count):
        partner = a + count if a < count else a - count
        others = {b: cosine(rows[a], rows[b]) / temperature for b in range(2 * count) if b != a}
        keys = [(cosine(rows[a], key) / temperature, label) for key, label in remembered or []]
        log_all = log_sum_exp([*others.values(), *(s for s, _ in keys)])
        mates = [s for b, s in others.items() if b != partner and same_thing(labels, a % count, b % count)]
        if labels is not None and labels[a % count] >= 0:
            mates += [s for s, label in keys if label == labels[a % count]]
        own = others[partner] - log_all
        if not mates:
            anchors.append(-own)
            continue
        weights = [1.0] + [beta / len(mates)] * len(mates)
        logs = [own] + [s - log_all for s in mates]
        anchors.append(-total(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights))
    return mean(anchors)
