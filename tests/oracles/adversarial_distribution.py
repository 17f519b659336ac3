from collections.abc import Callable
from typing import Any

import torch

from tests.oracles import nt_xent, supcon
from tests.oracles.loops import Number, Rows, mean

CASES = [
    {"steps": 1},
    {"steps": 2, "samples": 2, "weight": 1.0, "entropy_weight": 0.5, "epsilon": 0.1, "step_size": 0.2},
    {"steps": 1, "weight": 0.3, "base": {"supcon": {"temperature": 0.4}}},
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
    base: Any = "nt_xent",
    weight: float = 0.5,
    entropy_weight: float = 0.01,
    epsilon: float = 8 / 255,
    steps: int = 7,
    step_size: float = 0.3,
    samples: int = 1,
) -> Number:
    """`loss` is the built loss: the oracle takes its noise, draw after draw."""
    images, (low, high) = inputs[0].detach(), (float(x) for x in pixels)
    noise = loss.noise(images, progress)

    def inner(first: Rows, second: Rows) -> Number:
        if base == "nt_xent":
            return nt_xent.oracle(first, second, labels)
        return supcon.oracle(first, second, labels, **base["supcon"])

    def perturbed(a: torch.Tensor) -> torch.Tensor:
        return (images + epsilon * (high - low) * torch.tanh(a)).clamp(low, high)

    def deviation(v: torch.Tensor) -> torch.Tensor:
        return (1 + v.exp()).log()

    m, v = torch.zeros_like(images), torch.zeros_like(images)
    for _ in range(steps):
        m, v = m.detach().requires_grad_(), v.detach().requires_grad_()
        values = []
        for _ in range(samples):
            r = next(noise)
            a = m + deviation(v) * r
            minus_log = r**2 / 2 + (deviation(v) + 1e-8).log() + (1 - torch.tanh(a) ** 2 + 1e-8).log()
            entropy = minus_log.sum() / minus_log.numel()
            values.append(inner(list(encode(perturbed(a))), [row.detach() for row in z2]) + entropy_weight * entropy)
        slopes = torch.autograd.grad(mean(values), (m, v))
        m, v = (x.detach() + step_size * g / (g.abs() + 1e-8) for x, g in zip((m, v), slopes, strict=True))
    attacked = list(encode(perturbed(m + deviation(v) * next(noise))))
    return (1 - weight) * inner(list(z1), list(z2)) + weight * inner(attacked, list(z2))
