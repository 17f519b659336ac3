"""A projector's layers as one step of the derivative: products by torch, batch norm and ReLU in native/blocks.c.

The numbers are those of the modules but for rounding.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cl_semisup import native
from cl_semisup.native.blocks import Norm, count_batch, norm_of


def fused(projector: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The projector in a faster form, for the steps of training; None where it is not made of such layers.

    A call in another mode or of another kind of number goes through the projector itself.
    """
    library = native.library()
    if library is None or type(projector) is not nn.Sequential or len(projector) % 3 != 1:
        return None
    *hidden, last = projector
    norms: list[Norm] = []
    for linear, norm, relu in zip(hidden[0::3], hidden[1::3], hidden[2::3], strict=True):
        found = norm_of(norm, library.lanes())
        if (
            not _linear(linear, bias=False)
            or type(norm) is not nn.BatchNorm1d
            or type(relu) is not nn.ReLU
            or not found
        ):
            return None
        norms.append(found)
    if not norms or not _linear(last, bias=True):
        return None
    weights = list(projector.parameters())

    def project(features: Tensor) -> Tensor:
        if not (projector.training and _suits(features, weights)):
            whole: Tensor = projector(features)
            return whole
        projections: Tensor = _Head.apply(features, norms, library, *weights)
        return projections

    return project


def _linear(layer: nn.Module, bias: bool) -> bool:
    return type(layer) is nn.Linear and (layer.bias is not None) == bias


def _suits(features: Tensor, weights: Sequence[Tensor]) -> bool:
    single = features.dtype == weights[0].dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return single and features.device.type == "cpu" and len(features) > 1


class _Head(torch.autograd.Function):
    """Features (N, F) -> projections (N, D). Weights: each hidden layer's three, the last one's two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norms: list[Norm], library: ctypes.CDLL, *weights: Tensor) -> Tensor:
        kept, n = [x], len(x)
        for norm, matrix in zip(norms, weights[0::3], strict=False):
            y, width = x @ matrix.T, len(matrix)
            x, statistics, scratch = torch.empty_like(y), y.new_empty(2 * width), y.new_empty(4 * width)
            given = norm.given(statistics.data_ptr())
            library.norm_forward(y.data_ptr(), n, width, given, x.data_ptr(), scratch.data_ptr())
            kept += [y, statistics, x]
        count_batch(norms)
        ctx.save_for_backward(*kept, *weights)
        ctx.norms, ctx.library = norms, library
        return torch.addmm(weights[-1], x, weights[-2].T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        layers = len(ctx.norms)
        kept, weights = ctx.saved_tensors[: 3 * layers + 1], ctx.saved_tensors[3 * layers + 1 :]
        slopes: list[Tensor] = [slope.T @ kept[-1], slope.sum(dim=0)]
        slope = slope @ weights[-2]
        for number, norm in reversed(list(enumerate(ctx.norms))):
            x, y, statistics = kept[3 * number : 3 * number + 3]
            n, width = y.shape
            dy, scratch = torch.empty_like(y), y.new_empty(8 * width)
            scale, shift = torch.empty_like(norm.scale), torch.empty_like(norm.shift)
            given = norm.given(statistics.data_ptr())
            at = [tensor.data_ptr() for tensor in (dy, scale, shift, scratch)]
            ctx.library.norm_backward(slope.data_ptr(), y.data_ptr(), n, width, given, *at)
            slopes[:0] = [dy.T @ x, scale, shift]
            slope = dy @ weights[3 * number] if number or ctx.needs_input_grad[0] else dy
        return slope if ctx.needs_input_grad[0] else None, None, None, *slopes
