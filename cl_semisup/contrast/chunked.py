"""Sums over all pairs of a large batch, a chunk of rows at a time: memory O(n * chunk) where the matrix takes O(n^2).

The backward pass computes each chunk of the (n, m) matrix again, as softmax weights: one matrix product more than with
the whole matrix. Value and gradient are the same up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_ENTRIES = 2**24  # of a matrix that is made whole, e.g. both views of 2,048 images; 64 MiB in float32
CHUNK_ENTRIES = 2**22  # of a larger matrix at a time
_dense = ContextVar("dense", default=False)


@contextmanager
def dense() -> Iterator[None]:
    """Within, every matrix is made whole, however large, and torch differentiates it."""
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
    return rows * columns > MAX_ENTRIES and not is_dense()


def log_sum(
    x: Tensor, y: Tensor, temperature: float, x_ids: Tensor | None = None, y_ids: Tensor | None = None
) -> Tensor:
    """(n,) log sum_b exp(<x_a, y_b> / t) over the rows b whose id differs from a's; -inf where there is none.

    Args:
        x, y: (n, D) and (m, D)
        x_ids, y_ids: (n,) and (m,) int64; None means that every row of y counts
    """
    total: Tensor = _LogSum.apply(x, y, temperature, x_ids, y_ids)
    return total


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, temperature: float, x_ids: Tensor | None, y_ids: Tensor | None
    ) -> Tensor:
        total = torch.empty(len(x), dtype=x.dtype, device=x.device)
        for rows in _chunks(x, y):
            total[rows] = _logits(x, y, temperature, x_ids, y_ids, rows).logsumexp(dim=1)
        ctx.save_for_backward(x, y, x_ids, y_ids, total)
        ctx.temperature = temperature
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x, y, x_ids, y_ids, total = ctx.saved_tensors
        x_grad, y_grad = torch.empty_like(x), torch.zeros_like(y)
        for rows in _chunks(x, y):
            some = torch.isfinite(total[rows])  # an empty row has no gradient
            logits = _logits(x, y, ctx.temperature, x_ids, y_ids, rows)
            weights = (logits - torch.where(some, total[rows], 0.0)[:, None]).exp_()
            weights *= (torch.where(some, grad[rows], 0.0) / ctx.temperature)[:, None]
            with torch.autocast(x.device.type, enabled=False):
                x_grad[rows] = weights @ y
                y_grad.addmm_(weights.T, x[rows])
        return x_grad, y_grad, None, None, None


def _logits(
    x: Tensor, y: Tensor, temperature: float, x_ids: Tensor | None, y_ids: Tensor | None, rows: slice
) -> Tensor:
    """(chunk, m), -inf where a pair does not count."""
    with torch.autocast(x.device.type, enabled=False):
        logits = x[rows] @ y.T / temperature
    if x_ids is not None and y_ids is not None:
        logits.masked_fill_(x_ids[rows, None] == y_ids[None, :], -torch.inf)
    return logits


def _chunks(x: Tensor, y: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK_ENTRIES // len(y))
    return (slice(first, first + size) for first in range(0, len(x), size))
