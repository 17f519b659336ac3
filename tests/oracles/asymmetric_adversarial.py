from collections.abc import Callable
from typing import Any

import torch

from tests.oracles import nt_xent
from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {"steps": 1},
    {"steps": 2, "weight": 1.5, "asymmetry": 0.7, "epsilon": 0.1, "step_size": 0.05, "temperature": 0.3},
    {"steps": 0, "hard_negatives": True},
    {"steps": 0, "hard_negatives": True, "hardness": 0.5, "class_prior": 0.7, "temperature": 0.8},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    inputs: tuple[torch.Tensor, ...],
    encode: Callable[[torch.Tensor], torch.Tensor],
    pixels: tuple[torch.Tensor, torch.Tensor],
    progress: float,
    temperature: float = 0.5,
    weight: float = 1.0,
    asymmetry: float = 0.2,
    epsilon: float = 8 / 255,
    steps: int = 7,
    step_size: float = 0.007,
    hard_negatives: bool = False,
    hardness: float = 1.0,
    class_prior: float = 0.1,
) -> Number:
    """`loss` is the built loss: the oracle takes the attack's random start from it."""
    images, (low, high) = inputs[0].detach(), (float(x) for x in pixels)
    scale = high - low
    target = [row.detach() for row in z2]
    at = (images + epsilon * scale * loss.noise(images, progress)).clamp(low, high)
    for _ in range(steps):
        at = at.detach().requires_grad_()
        slope = torch.autograd.grad(nt_xent.oracle(list(encode(at)), target, None, temperature=temperature), at)[0]
        moved = at.detach() + step_size * scale * torch.sign(slope)
        nearest = torch.minimum(torch.maximum(moved, images - epsilon * scale), images + epsilon * scale)
        at = nearest.clamp(low, high)
    groups = [list(z1), list(z2), list(encode(at.detach()))]
    count = len(z1)

    def similar(x: tuple[int, int], c: tuple[int, int]) -> Number:
        return cosine(groups[x[0]][x[1]], groups[c[0]][c[1]].detach()) / temperature

    def spread(x: tuple[int, int]) -> Number:
        rest = [(g, i) for g in range(3) for i in range(count) if (g, i) != x]
        if not hard_negatives:
            return log_sum_exp(similar(x, c) for c in rest)
        positives = mean(similar(x, c).exp() for c in rest if c[1] == x[1])
        negatives = [similar(x, c) for c in rest if c[1] != x[1]]
        weights = [(hardness * s).exp() for s in negatives]
        weighed = total(w * s.exp() for w, s in zip(weights, negatives, strict=True)) / mean(weights)
        found = (weighed - class_prior * len(negatives) * positives) / (1 - class_prior)
        least = len(negatives) * torch.tensor(-1 / temperature, dtype=torch.float64).exp()
        return (positives + (found if found > least else least)).log()

    terms = []
    for i in range(count):
        pair = {(g, h): spread((g, i)) - similar((g, i), (h, i)) for g in range(3) for h in range(3) if g != h}
        adversarial = asymmetry * (pair[0, 2] + pair[1, 2]) + (1 - asymmetry) * (pair[2, 0] + pair[2, 1])
        terms.append(pair[0, 1] + pair[1, 0] + weight * adversarial)
    return total(terms) / (3 * count)
