import torch

from tests.oracles.loops import Number, Rows, mean, norm

CASES = [
    {},
    {"t": 0.5, "gamma": 3.0},
    {"kernel": "log"},
    {"kernel": "imq", "t": 0.8},
    {"kernel": "riesz", "t": 1.5, "gamma": 4.0},
    {"kernel": "riesz", "t": -1.0},
    {"kernel": "gaussian_riesz", "t": 3.0, "gamma": 1.0},
]


def oracle(
    z1: Rows, z2: Rows, labels: list[int] | None, *, kernel: str = "gaussian", t: float = 2.0, gamma: float = 16.0
) -> Number:
    count = len(z1)
    between = {"gaussian_riesz": "gaussian"}.get(kernel, kernel)
    within = {"gaussian_riesz": "riesz"}.get(kernel, kernel)
    sharpness = 2.0 if kernel == "gaussian_riesz" else t
    loss = -2 * mean(_kernel(between, _distance(z1[i], z2[i]), sharpness) for i in range(count))
    for z in (z1, z2):
        energy = mean(_kernel(within, _distance(z[i], z[j]), t) for j in range(count) for i in range(j))
        loss = loss + gamma * energy * (0.5 if kernel == "log" else 1)
    return loss


def _distance(a: torch.Tensor, b: torch.Tensor) -> Number:
    return norm([x / norm(a) - y / norm(b) for x, y in zip(a, b, strict=True)])


def _kernel(name: str, d: Number, t: float) -> Number:
    if name == "gaussian":
        return (-t * d**2).exp()
    if name == "log":
        return -(1 + t * d**2).log()
    if name == "imq":
        return t / (t**2 + d**2).sqrt()
    return d**-t if t > 0 else -(d**-t)
