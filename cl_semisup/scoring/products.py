"""Products of a matrix with itself, in float64 and by half of the multiplications."""

import torch
from torch import Tensor


def add_square(total: Tensor, rows: Tensor) -> None:
    """total (F, F) += rows^T rows, of rows (n, F), in the lower triangle alone.

    BLAS wants columns side by side in memory. The transposes of these matrices lie so, and nothing is copied.
    """
    from scipy.linalg.blas import dsyrk

    dsyrk(1.0, rows.numpy().T, 1.0, total.numpy().T, overwrite_c=True)


def square(rows: Tensor) -> Tensor:
    """rows rows^T (n, n), of rows (n, F), in the lower triangle alone."""
    from scipy.linalg.blas import dsyrk

    found: Tensor = torch.from_numpy(dsyrk(1.0, rows.numpy().T, trans=True)).T
    return found
