"""The head that BYOL, SimSiam and MoCo v3 put behind the projections of the trained branch."""

import torch
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-5


class Predictor(nn.Module):
    """Linear, BatchNorm, ReLU, Linear: (N, D) -> (N, D).

    The initial weights depend on the seed alone. A predictor is used in training only, so its batch norm has no running
    statistics. Unlike PyTorch's it accepts a single image, which it maps to the last layer's bias.
    """

    def __init__(self, dim: int, hidden: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.enter = nn.Parameter(_uniform(hidden, dim, generator))
        self.scale, self.shift = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.zeros(hidden))
        self.leave = nn.Parameter(_uniform(dim, hidden, generator))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, z: Tensor) -> Tensor:
        hidden = (z.to(self.enter.dtype) @ self.enter.T).to(self.enter.dtype)  # (N, hidden); float32 under autocast
        variance, centre = torch.var_mean(hidden, dim=0, correction=0)
        normed = (hidden - centre) * torch.rsqrt(variance + BATCH_NORM_EPS)
        return (normed * self.scale + self.shift).relu() @ self.leave.T + self.bias


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Uniform in +-1/sqrt(columns), as PyTorch initialises a linear layer."""
    return (2 * torch.rand(rows, columns, generator=generator) - 1) / columns**0.5
