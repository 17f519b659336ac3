"""Embeddings that several tests use."""

import torch
from torch import Tensor


def cloud(count: int, dim: int, seed: int = 0) -> Tensor:
    """(N, D) Gaussian rows in float64."""
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def golden_views() -> tuple[Tensor, Tensor]:
    """Two views (6, 4) in float64, by formulas that give the same numbers in any language.

    z1 = sin(1 + 3 i + 7 d + i d / 2), z2 = z1 + 0.3 cos(2 + 5 i + 3 d) for image i and dimension d
    """
    i, d = torch.arange(6, dtype=torch.float64)[:, None], torch.arange(4, dtype=torch.float64)
    z1 = torch.sin(1 + 3 * i + 7 * d + 0.5 * i * d)
    return z1, z1 + 0.3 * torch.cos(2 + 5 * i + 3 * d)
