"""What features are divided by before a linear classifier is fitted to them."""

import torch
from torch import Tensor

ROUNDING = 1e-6  # a spread below this share of the mean is rounding of float32
TINY = 1e-3  # a largest spread from which on features count as tiny


def column_scale(mean: Tensor, spread: Tensor) -> Tensor:
    """(F,) standard deviations `spread` to divide by, infinite for constant columns, which so become 0.

    A column is constant if its spread is at most 1e-6 (1 + |mean|). Of features so small that no spread reaches 1e-3,
    1 is replaced by 1000 times the largest spread, so that their scale changes no score.
    """
    unit = (spread.max() / TINY).clamp(max=1.0) if spread.numel() else spread.new_tensor(1.0)
    return torch.where(spread > ROUNDING * (unit + mean.abs()), spread, torch.inf)
