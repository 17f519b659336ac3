"""Number formats, and logarithms that do not overflow."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """In float32 or better."""
    return x if x.dtype == torch.float64 else x.float()


def log_one_plus_exp(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact above 20 too (unlike softplus); 0 at -inf."""
    return torch.logaddexp(x, torch.zeros_like(x))
