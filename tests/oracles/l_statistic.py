from typing import Any

import torch

from tests.oracles import cross_entropy, dhel, nt_xent, supcon, supcon_in
from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, same_thing, total

CASES = [
    {},
    {"kept": 0.5},
    {"weights": "ramp", "kept": 0.4},
    {"weights": "ramp", "kept": 1.0},
    {"weights": "power", "power": 2.0, "base": {"nt_xent": {"temperature": 0.1}}},
    {"warm_up": 0.6, "kept": 0.3},
    {"base": "supcon", "kept": 0.6},
    {"base": "supcon_in", "kept": 0.6},
    {"base": "dhel", "weights": "power", "power": 0.5},
    {"base": {"cross_entropy": {"label_smoothing": 0.1}}, "kept": 0.7},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    progress: float,
    logits: tuple[torch.Tensor, ...] | None = None,
    base: Any = "nt_xent",
    weights: str = "trim",
    kept: float = 0.9,
    power: float = 1.0,
    warm_up: float = 0.1,
) -> Number:
    name, settings = next(iter(base.items())) if isinstance(base, dict) else (base, {})
    values = sorted(_values(name, z1, z2, labels, logits, **settings), key=lambda value: value.item())
    if progress < warm_up:
        return mean(values)
    ranked = total(
        value * _weight(k / len(values), (k + 1) / len(values), weights, kept, power) for k, value in enumerate(values)
    )
    return ranked + total(z1[0]) * 0


def _weight(start: float, end: float, weights: str, kept: float, power: float) -> float:
    """Integral of W from start to end."""
    if weights == "power":
        return (1 - start) ** (1 + power) - (1 - end) ** (1 + power)
    inside, beyond = min(end, kept) - min(start, kept), (max(start, kept), max(end, kept))
    if weights == "trim":
        return inside / kept
    ramp = 0.0
    if beyond[1] > beyond[0]:
        at = (beyond[0] + beyond[1]) / 2  # the mean of a linear function is its value in the middle
        ramp = (beyond[1] - beyond[0]) * (1 - at) / (1 - kept)
    return (inside + ramp) / ((1 + kept) / 2)


def _values(
    name: str, z1: Rows, z2: Rows, labels: list[int] | None, logits: tuple[torch.Tensor, ...] | None, **settings: Any
) -> list[Number]:
    """Each image's own value, of those that have one."""
    if name == "cross_entropy":
        assert logits is not None
        one = lambda i: tuple(view[i : i + 1] for view in logits)  # noqa: E731
        labelled = [i for i, label in enumerate(labels or []) if label >= 0]
        return [
            cross_entropy.oracle(z1, z2, [labels[i]], logits=one(i), **settings)  # type: ignore[index, arg-type]
            for i in labelled
        ]
    rows, count, values = [*z1, *z2], len(z1), []
    for i in range(count):
        if name == "dhel":
            t = 0.3
            value = -cosine(z1[i], z2[i]) / t
            for z in (z1, z2):
                value = value + log_sum_exp(cosine(z[i], z[j]) / t for j in range(count) if j != i)
        elif name == "supcon_in":
            kernel = [(cosine(z1[i], v) / 0.2).exp() for v in z2]
            value = (total(kernel) / total(k for j, k in enumerate(kernel) if same_thing(labels, i, j))).log()
        else:
            t = settings.get("temperature", 0.5 if name == "nt_xent" else 0.1)
            anchors = []
            for a in (i, i + count):
                others = [b for b in range(2 * count) if b != a]
                same = [b for b in others if b % count == i or (name == "supcon" and same_thing(labels, i, b % count))]
                spread = log_sum_exp(cosine(rows[a], rows[b]) / t for b in others)
                anchors.append(mean(spread - cosine(rows[a], rows[b]) / t for b in same))
            value = mean(anchors)
        values.append(value)
    whole = {"dhel": dhel, "nt_xent": nt_xent, "supcon": supcon, "supcon_in": supcon_in}[name]
    torch.testing.assert_close(mean(values), whole.oracle(z1, z2, labels, **settings))
    return values
