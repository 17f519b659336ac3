"""The words that contrastive losses share: unit rows, identities, pairs of views, sums in log space.

Shapes: N inputs, D embedding; Z stacks both views as (2N, D), row i and row i + N being the same image.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cl_semisup import native
from cl_semisup.contrast import chunked

EPS = 1e-12  # a zero row stays a zero row: it is similar to nothing


def unit(z: Tensor) -> Tensor:
    """Rows scaled to length 1, in float32 or better: similarities lose their meaning in half precision."""
    z = z if z.dtype == torch.float64 else z.float()
    if library := _library(z):
        rows: Tensor = _Unit.apply(z, library)
        return rows
    return F.normalize(z, dim=-1, eps=EPS)


class _Unit(torch.autograd.Function):
    """`unit` in C (native/contrast.c): a call forward and one back, of a dozen small operations."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, library: ctypes.CDLL) -> Tensor:
        z = z.contiguous()
        rows, lengths = torch.empty_like(z), z.new_empty(z.shape[:-1])
        shape = lengths.numel(), z.shape[-1]
        library.unit_rows(z.data_ptr(), EPS, rows.data_ptr(), lengths.data_ptr(), *shape)
        ctx.save_for_backward(rows, lengths)
        ctx.library, ctx.shape = library, shape
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        slope, (rows, lengths) = slope.contiguous(), ctx.saved_tensors
        of_z = torch.empty_like(rows)
        at = slope.data_ptr(), rows.data_ptr(), lengths.data_ptr(), EPS, of_z.data_ptr()
        ctx.library.unit_rows_backward(*at, *ctx.shape)
        return of_z, None


def _library(z: Tensor) -> ctypes.CDLL | None:
    """Kernels for it, if they are used: for single precision on a CPU."""
    return native.library() if z.dtype == torch.float32 and z.device.type == "cpu" else None


def both(z1: Tensor, z2: Tensor) -> Tensor:
    """(2N, D) unit rows of both views."""
    return unit(torch.cat([z1, z2]))


def identities(labels: Tensor | None, count: int, device: torch.device) -> Tensor:
    """(N,) what each image is: its class, or itself when unlabelled. Unlabelled is not a class.

    Classes keep their label >= 0; image i without a label gets -1 - i, so no two unlabelled images are the same.
    """
    own = -1 - torch.arange(count, device=device)
    return own if labels is None else torch.where(labels >= 0, labels, own)


def same(ids: Tensor) -> Tensor:
    """(N, N) bool: is image j the same class as image i, or the same image?"""
    return ids[:, None] == ids[None, :]


def others(count: int, device: torch.device) -> Tensor:
    """(n, n) bool: every pair but a row with itself."""
    return ~torch.eye(count, dtype=torch.bool, device=device)


def partners(similarity: Tensor) -> Tensor:
    """(2N,) the entry of each row of a (2N, 2N) matrix that belongs to the other view of the same image."""
    half = similarity.shape[0] // 2
    return torch.cat([similarity.diagonal(half), similarity.diagonal(-half)])


def logsumexp(logits: Tensor, among: Tensor) -> Tensor:
    """(n,) log of the sum of exp over the entries that `among` admits; a row without any gets -inf and no gradient."""
    some = among.any(dim=1, keepdim=True)
    total = logits.masked_fill(~among & some, -torch.inf).logsumexp(dim=1)  # an empty row is summed whole, then dropped
    return total.masked_fill(~some.squeeze(1), -torch.inf)


def against_others(z: Tensor, temperature: float, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Of every row of (2N, D) Z: log of the sum of exp(s_ab / t) over rows b of another number, and s_{a,p(a)} / t.

    The (2N, 2N) matrix is made whole where it is small.
    """
    if chunked.too_large(len(z), len(z)):
        first, second = z.chunk(2)
        partner = (first * second).sum(dim=1) / temperature
        return chunked.log_sum(z, z, temperature, numbers, numbers), partner.repeat(2)
    if chunked.is_dense():
        logits = z @ z.T / temperature  # (2N, 2N)
        return logsumexp(logits, ~same(numbers)), partners(logits)
    found: tuple[Tensor, Tensor] = _AgainstOthers.apply(z, temperature, numbers, _library(z))
    return found


class _AgainstOthers(torch.autograd.Function):
    """Half the passes over the matrix, and half the memory, of torch's own derivative, with the same digits.

    Torch would make a matrix of zeros for each of the two diagonals where the partners are, and copies to divide and to
    mask. In C (native/contrast.c) all but the products with Z is one pass forward and one back.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, temperature: float, numbers: Tensor, library: ctypes.CDLL | None
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            logits = z @ z.T  # (2N, 2N)
        if library:
            total, partner = z.new_empty(2, len(z))
            numbers = numbers.contiguous()
            at = (logits.data_ptr(), numbers.data_ptr(), temperature, total.data_ptr(), partner.data_ptr())
            library.compare(*at, len(z))
        else:
            partner = partners(logits.div_(temperature))
            total = logits.masked_fill_(same(numbers), -torch.inf).logsumexp(dim=1)
        ctx.save_for_backward(z, logits, total)
        ctx.temperature, ctx.library = temperature, library
        return total, partner

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total_slope: Tensor, partner_slope: Tensor) -> tuple[Tensor | None, ...]:
        z, logits, total = ctx.saved_tensors
        if ctx.library:
            slope, scratch = logits.clone(), z.new_empty(2 * len(z))
            slopes = [given.contiguous() for given in (total_slope, partner_slope)]
            at = [tensor.data_ptr() for tensor in (slope, total, *slopes)]
            ctx.library.compare_backward(*at, ctx.temperature, len(z), scratch.data_ptr())
            with torch.autocast(z.device.type, enabled=False):
                return slope @ z, None, None, None
        some = torch.isfinite(total)  # an empty row has no gradient
        slope = (logits - torch.where(some, total, 0.0)[:, None]).exp_()
        slope.mul_(torch.where(some, total_slope, 0.0)[:, None])
        half = len(z) // 2
        for side, partner in zip((half, -half), partner_slope.split(half), strict=True):
            slope.diagonal(side).add_(partner)
        slope.div_(ctx.temperature)
        with torch.autocast(z.device.type, enabled=False):
            return slope @ z + (z.T @ slope).T, None, None, None


def attraction(z: Tensor, temperature: float, ids: Tensor) -> Tensor:
    """(n,) mean of s_ab / t over the other rows b of the same identity, from sums over identities: no (n, n) matrix.

    Every identity must have two rows or more.
    """
    _, group, count = ids.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(count), z.shape[1], dtype=z.dtype, device=z.device).index_add(0, group, z)
    return (z * (sums[group] - z)).sum(dim=1) / temperature / (count[group] - 1)


def mean(values: Tensor, of: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Mean over the anchors that count; without any, zero with a graph (finite, differentiable).

    `torch.where` keeps what an anchor that does not count would be (inf, NaN) out of value and gradient.
    """
    count = of.sum()
    total = torch.where(of, values, torch.zeros_like(values)).sum() / count.clamp(min=1)
    return total + nothing(z1, z2)


def nothing(z1: Tensor, z2: Tensor) -> Tensor:
    """Zero that depends on both inputs, so that backward works when no anchor is left."""
    return (z1.sum() + z2.sum()) * 0.0
