"""Blocks of convolution, batch norm, pooling and ReLU as one call each into compiled code (native/blocks.c).

For small networks on a CPU, whose steps are mostly the overhead and the memory traffic of many small operations. The
numbers are those of the modules, whose weights and running statistics they work on, but for rounding.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cl_semisup import native

WIDEST = 256  # channels up to which it has been measured to be faster than the modules
KEPT = 6  # tensors that a block keeps for its derivative


@dataclass(frozen=True, eq=False)
class Block:
    """3 x 3 convolution, batch norm, the largest of 2 x 2 if `pool`, ReLU: 4 modules of an encoder, or 3.

    `weights` are the convolution's kernels and the norm's scale and shift; `memory` its running mean and variance and
    the number of batches.
    """

    norm: nn.BatchNorm2d
    weights: tuple[Tensor, Tensor, Tensor]
    memory: tuple[Tensor, Tensor, Tensor]
    pool: bool


def fused(encoder: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """The encoder in a faster form, for the steps of training; None where it does not begin with such blocks.

    A call in another mode, of another kind of number, or whose images need a gradient, goes through the encoder itself.
    """
    library = native.library()
    if library is None or type(encoder).forward is not nn.Sequential.forward:
        return None
    assert isinstance(encoder, nn.Sequential)
    layers = list(encoder)
    blocks: list[Block] = []
    while block := _block(layers, library.lanes()):
        blocks.append(block)
        layers = layers[4 if block.pool else 3 :]
    weights = [weight for block in blocks for weight in block.weights]

    def encode(images: Tensor) -> Tensor:
        if not (encoder.training and _suits(images, blocks)):
            whole: Tensor = encoder(images)
            return whole
        x: Tensor = _Blocks.apply(images.contiguous(memory_format=torch.channels_last), blocks, library, *weights)
        for layer in layers:
            x = layer(x)
        return x

    return encode if blocks else None


def _block(layers: list[nn.Module], lanes: int) -> Block | None:
    """What the layers begin with, if it is such a block."""
    kinds = [type(layer) for layer in layers[:4]]
    pool = kinds == [nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU]
    if not pool and kinds[:3] != [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
        return None
    convolution, norm = layers[:2]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    narrow, wide = convolution.in_channels, convolution.out_channels
    usual = repr(convolution) == repr(nn.Conv2d(narrow, wide, 3, padding=1, bias=False))
    usual = usual and (not pool or repr(layers[2]) == repr(nn.MaxPool2d(2)))
    kept = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    memory = tuple(tensor for tensor in kept if tensor is not None)
    usual = usual and norm.affine and norm.momentum is not None and len(memory) == len(kept)
    if not usual or wide % lanes or max(narrow, wide) > WIDEST:
        return None
    return Block(norm, (convolution.weight, norm.weight, norm.bias), memory, pool)  # type: ignore[arg-type]


def _suits(images: Tensor, blocks: list[Block]) -> bool:
    """Single precision on the CPU without a gradient, and enough pixels for every maximum and variance."""
    numbers = {images.dtype, *(weight.dtype for weight in blocks[0].weights)}
    if images.device.type != "cpu" or numbers != {torch.float32} or torch.is_autocast_enabled("cpu"):
        return False
    last = min(images.shape[2:]) >> sum(block.pool for block in blocks)  # pixels of a side of the last block's output
    return not images.requires_grad and len(images) > 1 and last > 0


class _Blocks(torch.autograd.Function):
    """Images (N, C, H, W) in channels last, and three weights of each block -> (N, C', H', W') in channels last."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, blocks: list[Block], library: ctypes.CDLL, *weights: Tensor) -> Tensor:
        x = images.permute(0, 2, 3, 1)
        kept: list[Tensor] = []
        shapes, counts = [], []
        for block in blocks:
            (weight, gamma, beta), (mean, variance, count), norm = block.weights, block.memory, block.norm
            (n, h, w, narrow), wide = x.shape, weight.shape[0]
            shape = native.Shape(n, h, w, narrow, wide, block.pool)
            middle, statistics = x.new_empty(n, h, w, wide), x.new_empty(2 * wide)
            out = x.new_empty(n, h >> block.pool, w >> block.pool, wide)
            scratch = x.new_empty(library.block_scratch(shape))
            moves = norm.track_running_stats
            library.block_forward(
                shape, x.data_ptr(), weight.data_ptr(), native.strides(weight.stride()),
                gamma.data_ptr(), beta.data_ptr(), norm.eps, norm.momentum,
                mean.data_ptr() if moves else None, variance.data_ptr() if moves else None,
                middle.data_ptr(), statistics.data_ptr(), statistics.data_ptr() + 4 * wide,
                out.data_ptr(), scratch.data_ptr(),
            )  # fmt: skip
            kept += (x, middle, statistics, weight, gamma, beta)
            shapes.append(shape)
            counts += [count] if moves else []
            x = out
        if counts:
            torch._foreach_add_(counts, 1)
        ctx.save_for_backward(*kept)
        ctx.shapes, ctx.library = shapes, library
        return x.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        slope = slope.permute(0, 2, 3, 1).contiguous()
        kept = ctx.saved_tensors
        found: list[Tensor] = []
        for number, shape in reversed(list(enumerate(ctx.shapes))):
            x, middle, statistics, weight, gamma, beta = kept[KEPT * number : KEPT * (number + 1)]
            slopes = [torch.empty_like(tensor) for tensor in (weight, gamma, beta)]
            of_x = torch.empty_like(x) if number else None  # the images need none
            scratch = x.new_empty(ctx.library.block_scratch(shape))
            ctx.library.block_backward(
                shape, slope.data_ptr(), x.data_ptr(), middle.data_ptr(),
                statistics.data_ptr(), statistics.data_ptr() + 4 * gamma.shape[0],
                weight.data_ptr(), native.strides(weight.stride()), gamma.data_ptr(), beta.data_ptr(),
                *(tensor.data_ptr() for tensor in slopes), None if of_x is None else of_x.data_ptr(),
                scratch.data_ptr(),
            )  # fmt: skip
            found[:0] = slopes
            if of_x is not None:
                slope = of_x
        return None, None, None, *found
