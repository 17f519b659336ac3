import torch

from tests.oracles.fixmatch import Logits, probabilities, soft_cross_entropy, supervised
from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total
from tests.oracles.simmatch import aligned

CASES = [
    {},
    {"threshold": 0.4, "weight": 2.0, "graph_weight": 0.5, "graph_threshold": 0.3, "temperature": 0.5},
    {"threshold": 0.0, "graph_threshold": 0.0, "smoothing": 0.5, "memory": 8, "alignment": 2},
]

Guess = list[Number]
Memory = list[tuple[torch.Tensor, Guess]]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    logits: Logits,
    projections: tuple[torch.Tensor, ...],
    threshold: float = 0.95,
    weight: float = 1.0,
    graph_weight: float = 1.0,
    graph_threshold: float = 0.8,
    temperature: float = 0.2,
    smoothing: float = 0.9,
    memory: int = 2560,
    alignment: int = 32,
    held: Memory | None = None,
    means: list[Guess] | None = None,
) -> Number:
    """`held` and `means`: the memory and the mean guesses so far; the first step of training has none."""
    own = aligned([probabilities(row.detach()) for row in logits[0]], means)
    guesses = []
    for i, guess in enumerate(own):
        if held:
            near = [(cosine(projections[0][i].detach(), row) / temperature).exp() for row, _ in held]
            mixed = []
            for c, p in enumerate(guess):
                voted = total(n * g[c] for n, (_, g) in zip(near, held, strict=True)) / total(near)
                mixed.append(smoothing * p + (1 - smoothing) * voted)
            guesses.append(mixed)
        else:
            guesses.append(guess)
    by_class, by_graph = [], []
    for i, guess in enumerate(guesses):
        sure = max(float(p) for p in guess) >= threshold
        by_class.append(soft_cross_entropy(guess, logits[1][i]) * sure)
        edges = [total(a * b for a, b in zip(guess, other, strict=True)) for other in guesses]
        edges[i] = torch.ones(())
        edges = [edge * (float(edge) >= graph_threshold) for edge in edges]
        near = [cosine(projections[1][i], row) / temperature for row in projections[2]]
        by_graph.append(total(e / total(edges) * (log_sum_exp(near) - n) for e, n in zip(edges, near, strict=True)))
    return supervised(logits[0], labels) + weight * mean(by_class) + graph_weight * mean(by_graph)
