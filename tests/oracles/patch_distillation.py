from typing import Any

import torch

from tests.oracles import dscl, nt_xent
from tests.oracles.loops import Number, Rows, cosine, log_sum_exp, mean, total

CASES = [
    {},
    {"base": "nt_xent", "boxes": 2, "temperature": 0.5, "weight": 0.7},
]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    loss: Any,
    patches: Any,
    momentum_projections: tuple[torch.Tensor, ...],
    progress: float,
    base: str = "dscl",
    weight: float = 1.5,
    temperature: float = 0.07,
    remembered: list[torch.Tensor] | None = None,
    **_: Any,
) -> Number:
    """`loss` is the built loss: its boxes are tested elsewhere. `remembered`: the keys of earlier steps."""
    keys, terms = [row.detach() for row in momentum_projections[1]], []
    for box in loss._boxes(len(keys), progress):
        cut, regions = patches(box)
        for small, region, key in zip(cut, regions, keys, strict=True):
            among = [key, *(remembered or [])]
            wanted = [(cosine(region, k) / temperature).detach() for k in among]
            found = [cosine(small, k) / temperature for k in among]
            shares = [(w - log_sum_exp(wanted)).exp() for w in wanted]
            terms.append(-total(p * (f - log_sum_exp(found)) for p, f in zip(shares, found, strict=True)))
    value = {"dscl": dscl, "nt_xent": nt_xent}[base].oracle(z1, z2, labels)  # type: ignore[attr-defined]
    return value + weight * mean(terms)
