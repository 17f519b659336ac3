from typing import Any

import torch

from cl_semisup.seeds import seed
from tests.oracles import clop, supcon
from tests.oracles.loops import Number, Rows

CASES = [{}, {"share": 0.2}, {"base": "supcon", "share": 0.7}, {"base": "supcon", "share": 1.0}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    index: torch.Tensor,
    epoch: int,
    base: str = "clop",
    share: float = 0.5,
) -> Number:
    if labels is not None:
        labels = [
            label if uniform(int(i) + seed("label redraw", loss.rng_seed, epoch)) < share else -1
            for i, label in zip(index, labels, strict=True)
        ]
    return supcon.oracle(z1, z2, labels) if base == "supcon" else clop.oracle(z1, z2, labels, loss=loss.base)


def uniform(x: int) -> float:
    """splitmix64's mixing of a 64-bit number, by integers of any size."""
    whole = 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % whole
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % whole
    return ((x ^ (x >> 31)) % 2**53) / 2**53
