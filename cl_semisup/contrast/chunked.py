"""Sums over all pairs of a large batch, a chunk of rows at a time: memory O(n * chunk) where the matrix takes O(n^2).

Nothing of the (n, m) matrix is kept for the backward pass, which makes each chunk again as softmax weights: one matrix
product more than the dense way. Value and gradient are the same but for rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WHOLE = 2**24  # entries of a similarity matrix that is made whole, e.g. both views of 2,048 images; 64 MiB in float32
CHUNK = 2**22  # entries that are made at once of a larger one
_dense = ContextVar("dense", default=False)


@contextmanager
def dense() -> Iterator[None]:
    """Within, every matrix is made whole, however large, and its derivative is torch's own."""
    before = _dense.set(True)
    try:
        yield
    finally:
        _dense.reset(before)


def is_dense() -> bool:
    """Are we within `dense`?"""
    return _dense.get()


def too_large(rows: int, columns: int) -> bool:
    """Is a similarity matrix of this size better not made whole?"""
    return rows * columns > WHOLE and not is_dense()


def log_sum(
    x: Tensor, y: Tensor, temperature: float, x_number: Tensor | None = None, y_number: Tensor | None = None
) -> Tensor:
    """(n,) log sum_b exp(<x_a, y_b> / t) over the rows b whose number is another than a's; -inf where there is none.

    Args:
        x, y: (n, D) and (m, D)
        x_number, y_number: (n,) and (m,) int64; None means that every row of y counts
    """
    found: Tensor = _LogSum.apply(x, y, temperature, x_number, y_number)
    return found


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, temperature: float, x_number: Tensor | None, y_number: Tensor | None
    ) -> Tensor:
        total = torch.empty(len(x), dtype=x.dtype, device=x.device)
        for rows in _chunks(x, y):
            total[rows] = _logits(x, y, temperature, x_number, y_number, rows).logsumexp(dim=1)
        ctx.save_for_backward(x, y, x_number, y_number, total)
        ctx.temperature = temperature
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, y, x_number, y_number, total = ctx.saved_tensors
        x_slope, y_slope = torch.empty_like(x), torch.zeros_like(y)
        for rows in _chunks(x, y):
            some = torch.isfinite(total[rows])  # an empty row has no gradient
            logits = _logits(x, y, ctx.temperature, x_number, y_number, rows)
            weights = (logits - torch.where(some, total[rows], 0.0)[:, None]).exp_()
            weights *= (torch.where(some, slope[rows], 0.0) / ctx.temperature)[:, None]
            with torch.autocast(x.device.type, enabled=False):
                x_slope[rows] = weights @ y
                y_slope.addmm_(weights.T, x[rows])
        return x_slope, y_slope, None, None, None


def _logits(
    x: Tensor, y: Tensor, temperature: float, x_number: Tensor | None, y_number: Tensor | None, rows: slice
) -> Tensor:
    """(chunk, m), -inf where a pair does not count."""
    with torch.autocast(x.device.type, enabled=False):
        logits = x[rows] @ y.T / temperature
    if x_number is not None and y_number is not None:
        logits.masked_fill_(x_number[rows, None] == y_number[None, :], -torch.inf)
    return logits


def _chunks(x: Tensor, y: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK // len(y))
    return (slice(first, first + size) for first in range(0, len(x), size))
