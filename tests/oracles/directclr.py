import torch

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean

CASES = [{"share": 0.4}, {"temperature": 0.5, "share": 1.0}, {}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    features: tuple[torch.Tensor, ...],
    temperature: float = 0.1,
    share: float = 0.18,
) -> Number:
    keep = {0.4: 2, 1.0: 5, 0.18: 1}[share]  # of five dimensions
    first = [row[:keep] for row in features[0]]
    second = [row[:keep] for row in features[1]]
    terms = []
    for rows, others in ((first, second), (second, first)):
        for i, row in enumerate(rows):
            logits = [cosine(row, other) / temperature for other in others]
            terms.append(log_sum_exp(logits) - logits[i])
    return mean(terms)
