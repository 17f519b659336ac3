import numpy as np
import torch

from tests.oracles import nt_xent
from tests.oracles.loops import Number, Rows, dot, total

CASES = [{}, {"penalty": "soft", "weight": 0.5}, {"base": {"nt_xent": {"temperature": 0.5}}, "weight": 0.1}]


def oracle(
    z1: Rows,
    z2: Rows,
    labels: list[int] | None,
    *,
    weights: tuple[torch.Tensor, ...],
    base: object = "nt_xent",
    weight: float = 1e-3,
    penalty: str = "spectral",
) -> Number:
    settings = base["nt_xent"] if isinstance(base, dict) else {}
    return nt_xent.oracle(z1, z2, labels, **settings) + weight * total(_away(w, penalty) for w in weights)


def _away(matrix: torch.Tensor, penalty: str) -> Number:
    """How far a matrix is from an isometry; its singular values are those of the library."""
    rows, columns = matrix.shape
    sides = list(matrix.T) if rows > columns else list(matrix)
    if penalty == "soft":
        return total((dot(a, b) - float(i == j)) ** 2 for i, a in enumerate(sides) for j, b in enumerate(sides))
    stretched = np.linalg.svd(matrix.detach().numpy(), compute_uv=False) ** 2 - 1
    return torch.tensor(float(np.abs(stretched).max()), dtype=torch.float64)
