from typing import Any

import torch

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [{}, {"temperature": 0.5}]


def labelled(z1: Rows, z2: Rows, labels: list[int] | None) -> list[tuple[torch.Tensor, int]]:
    """Rows of both views that have a label, and their classes."""
    return [(view[i], label) for view in (z1, z2) for i, label in enumerate(labels or []) if label >= 0]


def weights(loss: Any) -> list[torch.Tensor]:
    """The weights of the classes, which the oracle takes from the built loss."""
    return [row.detach() for row in loss.prototypes]


def oracle(z1: Rows, z2: Rows, labels: list[int] | None, *, loss: Any, temperature: float = 0.1) -> Number:
    terms = []
    for row, label in labelled(z1, z2, labels):
        logits = [cosine(row, w) / temperature for w in weights(loss)]
        terms.append(log_sum_exp(logits) - logits[label])
    return mean(terms) if terms else total(z1[0]) * 0
