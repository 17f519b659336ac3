from typing import Any

from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, norm, total

CASES = [
    {"prototypes": 6},
    {"prototypes": 4, "temperature": 0.3, "sharpness": 0.2, "iterations": 1, "frozen_epochs": 0},
    {"prototypes": 5, "queue": 3, "queue_epoch": 0},
    {"prototypes": 5, "queue": 3, "queue_epoch": 1},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    epoch: int,
    prototypes: int,
    temperature: float = 0.1,
    sharpness: float = 0.05,
    iterations: int = 3,
    frozen_epochs: int = 1,
    queue: int = 0,
    queue_epoch: int = 15,
    local_projections: Any = (),
) -> Number:
    """`loss` is the built loss, not yet used: the oracle takes its prototypes; its queue is still all zeros."""
    rows = loss.prototypes.detach()
    scores = [[[cosine(row, p) for p in rows] for row in view] for view in (z1, z2)]
    idle = queue if epoch >= queue_epoch else 0
    codes = [_codes(s, idle, sharpness, iterations) for s in scores]
    local = [[[cosine(row, p) for p in rows] for row in view] for view in local_projections]
    terms = []
    for i in range(len(z1)):
        pairs = [(codes[1][i], scores[0][i]), (codes[0][i], scores[1][i])]
        pairs += [(code[i], guess[i]) for guess in local for code in codes]
        for code, guess in pairs:
            logits = [g / temperature for g in guess]
            log_all = log_sum_exp(logits)
            terms.append(-total(q * (x - log_all) for q, x in zip(code, logits, strict=True)))
    return mean(terms)


def _codes(scores: list[list[Number]], idle: int, sharpness: float, iterations: int) -> list[list[Number]]:
    """Sinkhorn on the masses themselves, as in the paper; `idle` rows prefer no prototype."""
    mass = [[(value.detach() / sharpness).exp() for value in row] for row in scores]
    mass += [[norm([value]) * 0 + 1 for value in mass[0]] for _ in range(idle)]
    count, width = len(mass), len(mass[0])
    for _ in range(iterations):
        for k in range(width):
            column = total(row[k] for row in mass)
            for row in mass:
                row[k] = row[k] / column / width
        for row in mass:
            whole = total(row)
            row[:] = [value / whole / count for value in row]
    return [[value * count for value in row] for row in mass]
