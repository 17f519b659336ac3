import torch

from tests.oracles.loops import Number, Rows, log_sum_exp, mean, total

CASES = [{}, {"threshold": 0.5, "weight": 0.3}, {"threshold": 0.0}]

Logits = tuple[torch.Tensor, ...]


def oracle(
    z1: Rows, z2: Rows, labels: list[int] | None, *, logits: Logits, threshold: float = 0.95, weight: float = 1.0
) -> Number:
    weak, strong = logits[0], logits[1]
    terms = []
    for i in range(len(weak)):
        p = probabilities(weak[i].detach())
        best = max(range(len(p)), key=lambda c: float(p[c]))
        terms.append(cross_entropy(strong[i], best) if float(p[best]) >= threshold else total(strong[i]) * 0)
    return supervised(weak, labels) + weight * mean(terms)


def probabilities(row: torch.Tensor) -> list[Number]:
    whole = total(x.exp() for x in row)
    return [x.exp() / whole for x in row]


def cross_entropy(row: torch.Tensor, label: int) -> Number:
    return log_sum_exp(row) - row[label]


def soft_cross_entropy(target: list[Number], row: torch.Tensor) -> Number:
    return total(q * cross_entropy(row, c) for c, q in enumerate(target))


def supervised(logits: torch.Tensor, labels: list[int] | None) -> Number:
    """Mean cross-entropy of the labelled rows, or 0."""
    terms = [cross_entropy(logits[i], label) for i, label in enumerate(labels or []) if label >= 0]
    return mean(terms) if terms else total(logits[0]) * 0
