"""Blocks of convolution, batch norm, pooling and ReLU, one call each into blocks.c. Their twin is the encoder itself.

For small networks on a CPU, whose steps are mostly the overhead and the memory traffic of many small operations. The
numbers are those of the modules up to rounding; weights and running statistics are the modules' own. Under autocast to
bfloat16 the factors of convolutions are rounded to it, as in torch; sums, statistics and what lies between the layers
stay in float32.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cl_semisup.encoders._layers import SpatialMean
from cl_semisup.native import library

MAX_CHANNELS = 256  # up to which it has been measured to be faster than the modules
FLOAT, CACHE_LINE = 4, 64  # bytes


@dataclass(frozen=True, eq=False)
class Block:
    """3 x 3 convolution, batch norm, maximum over 2 x 2 if `pool`, ReLU: 4 modules of an encoder, or 3."""

    weight: Tensor
    norm: nn.BatchNorm2d
    pool: bool

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weight, self.norm.weight, self.norm.bias

    def norm_as_struct(self, statistics: int) -> library.BatchNorm:
        """`statistics`: the address where the batch's mean, then its 1 / deviation, are written."""
        norm = self.norm
        running = (norm.running_mean, norm.running_var) if norm.track_running_stats else (None, None)
        return library.BatchNorm(
            norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps, norm.momentum,
            *(None if tensor is None else tensor.data_ptr() for tensor in running),
            statistics, statistics + norm.num_features * FLOAT,
        )  # fmt: skip


def fast_encoder(encoder: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function that encodes a batch in training as `encoder` does; `encoder` itself if it begins with no block.

    A call in evaluation, of another dtype, or whose images need a gradient, goes through the encoder itself.
    """
    kernels = library.get()
    if kernels is None or type(encoder).forward is not nn.Sequential.forward:
        return encoder
    assert isinstance(encoder, nn.Sequential)
    layers = list(encoder)
    blocks: list[Block] = []
    while block := _block(layers, kernels.simd_width()):
        blocks.append(block)
        layers = layers[4 if block.pool else 3 :]
    if not blocks:
        return encoder
    if mean := bool(layers and type(layers[0]) is SpatialMean):
        layers = layers[1:]
    weights = [weight for block in blocks for weight in block.parameters]
    layouts: dict[tuple[torch.Size, bool], BufferLayout] = {}  # an epoch's batches have one shape

    def encode(images: Tensor) -> Tensor:
        if not (encoder.training and _fits(images, blocks)):
            features: Tensor = encoder(images)
            return features
        key = images.shape, torch.is_autocast_enabled("cpu")
        if key not in layouts:
            layouts[key] = _layout(*key, mean, blocks, kernels)
        images = images.contiguous(memory_format=torch.channels_last)
        x: Tensor = _Blocks.apply(images, blocks, layouts[key], kernels, *weights)
        for layer in layers:
            x = layer(x)
        return x

    return encode


def _block(layers: list[nn.Module], simd_width: int) -> Block | None:
    """The block that the layers begin with, if C can do it."""
    kinds = [type(layer) for layer in layers[:4]]
    pool = kinds == [nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.ReLU]
    if not pool and kinds[:3] != [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
        return None
    convolution, norm = layers[:2]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    channels = convolution.in_channels, convolution.out_channels
    usual = repr(convolution) == repr(nn.Conv2d(*channels, 3, padding=1, bias=False))
    usual = usual and (not pool or repr(layers[2]) == repr(nn.MaxPool2d(2)))
    usual = usual and norm.affine and norm.momentum is not None and norm.running_mean is not None
    fits = norm.num_features % simd_width == 0 and max(channels) <= MAX_CHANNELS
    return Block(convolution.weight, norm, pool) if usual and fits else None


def _fits(images: Tensor, blocks: list[Block]) -> bool:
    """Float32 on the CPU, images without a gradient, and enough pixels for every maximum and variance."""
    dtypes = {images.dtype, blocks[0].weight.dtype, blocks[0].norm.weight.dtype}
    if images.device.type != "cpu" or dtypes != {torch.float32}:
        return False
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    last_side = min(images.shape[2:]) >> sum(block.pool for block in blocks)
    return not images.requires_grad and len(images) > 1 and last_side > 0


@dataclass(frozen=True, eq=False)
class BufferLayout:
    """Byte offsets into two buffers, for images of one shape.

    The first buffer is saved for the backward pass: of each block `conv` (the convolution's output), `statistics`
    (of the batch), and `out`, the next block's input. The second one is scratch. In the backward pass it begins with
    `grads`: gradients of each block's input and of the last block's output.
    """

    shapes: tuple[library.Shape, ...]
    mean: bool  # over the pixels of the last block's output
    conv: tuple[int, ...]
    statistics: tuple[int, ...]
    out: tuple[int, ...]
    saved_size: int
    grads: tuple[int, ...]
    grads_size: int
    scratch_size: int  # beyond the gradients

    @property
    def last(self) -> tuple[int, int, int, int]:
        """Sizes (N, H, W, C) of the last block's output."""
        shape = self.shapes[-1]
        return shape.n, shape.h >> shape.pool, shape.w >> shape.pool, shape.cout


def _layout(images: torch.Size, bf16: bool, mean: bool, blocks: list[Block], kernels: ctypes.CDLL) -> BufferLayout:
    n, channels, h, w = images
    shapes: list[library.Shape] = []
    saved, grads = [0], [0]
    for block in blocks:
        shape = library.Shape(n, h, w, channels, len(block.weight), block.pool, bf16)
        shapes.append(shape)
        grads.append(grads[-1] + _bytes(n, h, w, channels))
        channels, conv = shape.cout, (n, h, w, shape.cout)
        h, w = h >> block.pool, w >> block.pool
        for sizes in (conv, (2, channels), (n, h, w, channels)):
            saved.append(saved[-1] + _bytes(*sizes))
    return BufferLayout(
        shapes=tuple(shapes),
        mean=mean,
        conv=tuple(saved[0:-1:3]),
        statistics=tuple(saved[1:-1:3]),
        out=tuple(saved[2:-1:3]),
        saved_size=saved[-1],
        grads=tuple(grads),
        grads_size=grads[-1] + _bytes(n, h, w, channels),
        scratch_size=max(_bytes(kernels.block_scratch(shape)) for shape in shapes),
    )


def _bytes(*sizes: int) -> int:
    """Of an array of floats, rounded up to whole cache lines."""
    return -(-math.prod(sizes) * FLOAT // CACHE_LINE) * CACHE_LINE


def _allocate(like: Tensor, size: int) -> Tensor:
    return like.new_empty(size // FLOAT)


@cache
def _strides(strides: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(strides))(*strides)


class _Blocks(torch.autograd.Function):
    """Images (N, C, H, W) in channels last, and three weights of each block -> (N, C', H', W') in channels last.

    With a mean over pixels (N, C').
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, blocks: list[Block], layout: BufferLayout, kernels: ctypes.CDLL, *weights: Tensor
    ) -> Tensor:
        n, h, w, channels = layout.last
        result = images.new_empty((n, channels) if layout.mean else layout.last)
        saved, scratch = _allocate(images, layout.saved_size), _allocate(images, layout.scratch_size)
        base, x = saved.data_ptr(), images.data_ptr()
        norms = [block.norm_as_struct(base + at) for block, at in zip(blocks, layout.statistics, strict=True)]
        for number, (block, shape) in enumerate(zip(blocks, layout.shapes, strict=True)):
            is_result = number == len(blocks) - 1 and not layout.mean
            out = result.data_ptr() if is_result else base + layout.out[number]
            kernels.block_forward(
                shape, x, block.weight.data_ptr(), _strides(block.weight.stride()),
                norms[number], base + layout.conv[number], out, scratch.data_ptr(),
            )  # fmt: skip
            x = out
        if layout.mean:
            kernels.spatial_mean(x, result.data_ptr(), n, h * w, channels)
        for norm in (block.norm for block in blocks if block.norm.track_running_stats):
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(images, saved, *weights)
        ctx.blocks, ctx.norms, ctx.layout, ctx.kernels = blocks, norms, layout, kernels
        return result if layout.mean else result.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (images, saved, *weights), layout, kernels = ctx.saved_tensors, ctx.layout, ctx.kernels
        grad = grad.contiguous() if layout.mean else grad.permute(0, 2, 3, 1).contiguous()
        work = _allocate(images, layout.grads_size + layout.scratch_size)
        base, work_base, out_grad = saved.data_ptr(), work.data_ptr(), grad.data_ptr()
        if layout.mean:
            n, h, w, channels = layout.last
            kernels.spatial_mean_backward(out_grad, work_base + layout.grads[-1], n, h * w, channels)
            out_grad = work_base + layout.grads[-1]
        grads = [torch.empty_like(weight) for weight in weights]
        for number, (block, shape) in reversed(list(enumerate(zip(ctx.blocks, layout.shapes, strict=True)))):
            x_grad = work_base + layout.grads[number] if number else None  # the images need none
            kernels.block_backward(
                shape, out_grad, base + layout.out[number - 1] if number else images.data_ptr(),
                base + layout.conv[number], block.weight.data_ptr(), _strides(block.weight.stride()),
                ctx.norms[number], *(tensor.data_ptr() for tensor in grads[3 * number : 3 * number + 3]), x_grad,
                work_base + layout.grads_size,
            )  # fmt: skip
            out_grad = x_grad or 0
        return None, None, None, None, *grads
