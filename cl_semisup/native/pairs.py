"""Sums over all pairs of rows, as in NT-Xent, with a derivative that is written out: in C (pairs.c), or in torch."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cl_semisup.native import library


def log_sum_and_partner(z: Tensor, temperature: float, ids: Tensor) -> tuple[Tensor, Tensor]:
    """For each row a of Z (2N, D): log of the sum of exp(s_ab / t) over rows b of another id, and s_{a, a +- N} / t.

    s = Z Z^T is made whole. A row without any such b gets -inf and no gradient.

    Args:
        z: (2N, D); C takes float32 on a CPU
        temperature: t > 0
        ids: (2N,) int64
    """
    sums: tuple[Tensor, Tensor] = _PairSums.apply(z, temperature, ids)
    return sums


class _PairSums(torch.autograd.Function):
    """Half the passes over the matrix, and half the memory, of torch's own derivative, with the same digits.

    Torch would make a matrix of zeros for each of the two diagonals of partners, and copies to divide and to mask.
    In C all but the products with Z is one pass forward and one back.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, ids: Tensor) -> tuple[Tensor, Tensor]:
        kernels = library.get() if z.dtype == torch.float32 and z.device.type == "cpu" else None
        with torch.autocast(z.device.type, enabled=False):
            logits = z @ z.T  # (2N, 2N)
        if kernels:
            total, partner = z.new_empty(2, len(z))
            ids = ids.contiguous()
            addresses = (logits.data_ptr(), ids.data_ptr(), temperature, total.data_ptr(), partner.data_ptr())
            kernels.pair_sums(*addresses, len(z))
        else:
            half = len(z) // 2
            logits.div_(temperature)
            partner = torch.cat([logits.diagonal(half), logits.diagonal(-half)])
            total = logits.masked_fill_(ids[:, None] == ids[None, :], -torch.inf).logsumexp(dim=1)
        ctx.save_for_backward(z, logits, total)
        ctx.temperature, ctx.kernels = temperature, kernels
        return total, partner

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total_grad: Tensor, partner_grad: Tensor) -> tuple[Tensor | None, ...]:
        z, logits, total = ctx.saved_tensors
        if ctx.kernels:
            grad, scratch = logits.clone(), z.new_empty(2 * len(z))
            tensors = grad, total, total_grad.contiguous(), partner_grad.contiguous()
            addresses = [tensor.data_ptr() for tensor in tensors]
            ctx.kernels.pair_sums_backward(*addresses, ctx.temperature, len(z), scratch.data_ptr())
            with torch.autocast(z.device.type, enabled=False):
                return grad @ z, None, None
        some = torch.isfinite(total)  # an empty row has no gradient
        grad = (logits - torch.where(some, total, 0.0)[:, None]).exp_()
        grad.mul_(torch.where(some, total_grad, 0.0)[:, None])
        half = len(z) // 2
        for offset, partner in zip((half, -half), partner_grad.split(half), strict=True):
            grad.diagonal(offset).add_(partner)
        grad.div_(ctx.temperature)
        with torch.autocast(z.device.type, enabled=False):
            return grad @ z + (z.T @ grad).T, None, None
