"""Products of a matrix with itself, in float64 and by little more than half of the multiplications.

In torch, since scipy's `dsyrk` keeps Python's lock: all other threads would wait for it.
"""

import torch
from torch import Tensor

BLOCK = 256  # rows of the product at once


def add_square(total: Tensor, rows: Tensor) -> None:
    """total (F, F) += rows^T rows, of rows (n, F), in the upper triangle; below it lies a part of the sum."""
    for first in range(0, len(total), BLOCK):
        part = slice(first, first + BLOCK)
        total[part, first:].addmm_(rows[:, part].T, rows[:, first:])


def square(rows: Tensor) -> Tensor:
    """rows rows^T (n, n), of rows (n, F), in the upper triangle; below it lies a part of the product."""
    total = torch.zeros(len(rows), len(rows), dtype=rows.dtype)
    add_square(total, rows.T)
    return total
