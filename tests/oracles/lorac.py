from typing import Any

import torch

from tests.oracles.loops import Number, Rows, dot, log_sum_exp, mean, norm, total

CASES = [
    {"memory": 5},
    {"memory": 3, "views": 2, "temperature": 0.5, "rank_divisor": 2.0, "start": 0.2, "momentum": 0.9},
    {"memory": 4, "views": 4, "start": 0.9},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    projections: tuple[torch.Tensor, ...],
    momentum_projections: tuple[torch.Tensor, ...],
    progress: float,
    views: int = 3,
    temperature: float = 0.2,
    rank_divisor: float = 15.0,
    start: float = 0.5,
    memory: int = 1024,
    momentum: float = 0.99,
) -> Number:
    """`loss` is the built loss: the oracle reads its memory."""
    assert len(projections) == views
    assert loss.memory.shape[1] == memory
    assert loss.requirements.momentum == (momentum, momentum)
    queries = [[_unit(row) for row in view] for view in projections]
    keys = [[_unit(row) for row in view.detach()] for view in momentum_projections[:2]]
    terms = []
    for k in range(2):
        for q in range(views):
            for i in range(len(z1) if q != k else 0):
                positive = dot(queries[q][i], keys[k][i]) / temperature
                if progress >= start:
                    rows = [queries[v][i] for v in range(views)] + [keys[0][i], keys[1][i]]
                    singular = torch.linalg.svdvals(torch.stack([torch.stack(row) for row in rows]))
                    padded = [s**2 for s in singular] + [torch.zeros(())] * (len(rows) - len(singular))
                    positive = positive - total((value + 1e-8).sqrt() for value in padded) / rank_divisor
                negatives = [dot(queries[q][i], m) / temperature for m in loss.memory[1 - k].double()]
                terms.append(log_sum_exp([positive, *negatives]) - positive)
    return mean(terms)


def _unit(row: torch.Tensor) -> list[Number]:
    return [x / norm(row) for x in row]
