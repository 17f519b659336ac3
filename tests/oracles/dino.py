from typing import Any

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {"prototypes": 6},
    {
        "prototypes": 4,
        "temperature": 0.3,
        "teacher_temperature": 0.2,
        "centre_momentum": 0.5,
        "frozen_epochs": 0,
        "momentum": 0.9,
    },
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    momentum_projections: Any,
    epoch: int,
    progress: float,
    prototypes: int,
    temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    centre_momentum: float = 0.9,
    frozen_epochs: int = 1,
    momentum: float = 0.99,
    local_projections: Any = (),
) -> Number:
    """`loss` is the built loss, not yet used: both sets of prototypes are the first ones, and the centre is zero."""
    rows, terms = loss.prototypes.detach(), []
    pairs = [(z1, momentum_projections[1]), (z2, momentum_projections[0])]
    pairs += [(local, seen) for local in local_projections for seen in momentum_projections]
    for view, other in pairs:
        for row, seen in zip(view, other, strict=True):
            guess = [cosine(row, p) / temperature for p in rows]
            answer = [cosine(seen, p) / teacher_temperature for p in rows]
            log_all, log_answers = log_sum_exp(guess), log_sum_exp(answer)
            terms.append(-total((a - log_answers).exp() * (g - log_all) for a, g in zip(answer, guess, strict=True)))
    return mean(terms)
