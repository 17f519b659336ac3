"""Blocks of convolution, batch norm, pooling and ReLU as one call each into compiled code (native/blocks.c).

For small networks on a CPU, whose steps are mostly the overhead and the memory traffic of many small operations. The
numbers are those of the modules, whose weights and running statistics they work on, but for rounding. Under autocast to
bfloat16 the numbers that a convolution multiplies are rounded to it, as they are there; sums, statistics and what lies
between the layers stay in single precision.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cl_semisup import native
from cl_semisup.encoders._layers import SpatialMean

WIDEST = 256  # channels up to which it has been measured to be faster than the modules
FLOAT, LINE = 4, 64  # bytes of a number, and of a line of the cache


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch norm: `scale` and `shift`, and its `memory`, running mean and variance and the number of batches."""

    module: nn.modules.batchnorm._BatchNorm
    scale: Tensor
    shift: Tensor
    memory: tuple[Tensor, Tensor, Tensor]

    def given(self, statistics: int) -> native.BatchNorm:
        """With where the batch's mean and deviation go, one after the other."""
        mean, variance, _ = self.memory
        moves = self.module.track_running_stats
        return native.BatchNorm(
            self.scale.data_ptr(), self.shift.data_ptr(), self.module.eps, self.module.momentum,
            mean.data_ptr() if moves else None, variance.data_ptr() if moves else None,
            statistics, statistics + self.scale.shape[0] * FLOAT,
        )  # fmt: skip


def norm_of(module: nn.Module, lanes: int) -> Norm | None:
    """A batch norm as it is by default but for its numbers; None of anything else, or of a width that does not fit."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or not module.affine or module.momentum is None:
        return None
    mean, variance, count = module.running_mean, module.running_var, module.num_batches_tracked
    if mean is None or variance is None or count is None or module.num_features % lanes:
        return None
    return Norm(module, module.weight, module.bias, (mean, variance, count))


def count_batch(norms: list[Norm]) -> None:
    """Those that remember have seen one more."""
    if counts := [norm.memory[2] for norm in norms if norm.module.track_running_stats]:
        torch._foreach_add_(counts, 1)


@dataclass(frozen=True, eq=False)
class Block:
    """3 x 3 convolution, batch norm, the largest of 2 x 2 if `pool`, ReLU: 4 modules of an encoder, or 3."""

    kernels: Tensor
    norm: Norm
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
    if mean := bool(blocks and layers and type(layers[0]) is SpatialMean):
        layers = layers[1:]
    weights = [weight for block in blocks for weight in (block.kernels, block.norm.scale, block.norm.shift)]
    rooms: dict[tuple[torch.Size, bool], Room] = {}  # an epoch's batches have one shape

    def encode(images: Tensor) -> Tensor:
        if not (encoder.training and _suits(images, blocks)):
            whole: Tensor = encoder(images)
            return whole
        key = images.shape, torch.is_autocast_enabled("cpu")
        if key not in rooms:
            rooms[key] = _room(*key, mean, blocks, library)
        images = images.contiguous(memory_format=torch.channels_last)
        x: Tensor = _Blocks.apply(images, blocks, rooms[key], library, *weights)
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
    convolution, norm = layers[0], norm_of(layers[1], lanes)
    assert isinstance(convolution, nn.Conv2d)
    narrow, wide = convolution.in_channels, convolution.out_channels
    usual = repr(convolution) == repr(nn.Conv2d(narrow, wide, 3, padding=1, bias=False))
    usual = usual and (not pool or repr(layers[2]) == repr(nn.MaxPool2d(2)))
    if norm is None or not usual or max(narrow, wide) > WIDEST:
        return None
    return Block(convolution.weight, norm, pool)


def _suits(images: Tensor, blocks: list[Block]) -> bool:
    """Single precision on the CPU without a gradient, and enough pixels for every maximum and variance."""
    first = blocks[0]
    numbers = {images.dtype, first.kernels.dtype, first.norm.scale.dtype}
    if images.device.type != "cpu" or numbers != {torch.float32}:
        return False
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    last = min(images.shape[2:]) >> sum(block.pool for block in blocks)  # pixels of a side of the last block's output
    return not images.requires_grad and len(images) > 1 and last > 0


@dataclass(frozen=True, eq=False)
class Room:
    """Where what blocks make of images of one shape lies, as offsets in bytes into two pieces of memory.

    The first is kept for the derivative: of each block its `middle` (what the convolution gave), its `statistics`, and
    its `out`, which is the next one's input. The second is worked in, forward and back: from `scratch` on by a block;
    before it lie `slopes` of the input of each block and of the last one's output. `mean`: that one is averaged over
    pixels.
    """

    shapes: tuple[native.Shape, ...]
    mean: bool
    middle: tuple[int, ...]
    statistics: tuple[int, ...]
    out: tuple[int, ...]
    kept: int
    slopes: tuple[int, ...]
    scratch: int
    work: int

    @property
    def last(self) -> tuple[int, int, int, int]:
        """Sizes (N, H, W, C) of the last block's output."""
        shape = self.shapes[-1]
        return shape.n, shape.h >> shape.pool, shape.w >> shape.pool, shape.cout


def _room(images: torch.Size, half: bool, mean: bool, blocks: list[Block], library: ctypes.CDLL) -> Room:
    n, channels, h, w = images
    shapes: list[native.Shape] = []
    kept, slopes = [0], [0]
    for block in blocks:
        shape = native.Shape(n, h, w, channels, len(block.kernels), block.pool, half)
        shapes.append(shape)
        slopes.append(slopes[-1] + _bytes(n, h, w, channels))
        channels, pixels = shape.cout, (n, h, w)
        h, w = h >> block.pool, w >> block.pool
        for sizes in ((*pixels, channels), (2, channels), (n, h, w, channels)):
            kept.append(kept[-1] + _bytes(*sizes))
    before = slopes[-1] + _bytes(n, h, w, channels)
    return Room(
        shapes=tuple(shapes),
        mean=mean,
        middle=tuple(kept[0:-1:3]),
        statistics=tuple(kept[1:-1:3]),
        out=tuple(kept[2:-1:3]),
        kept=kept[-1],
        slopes=tuple(slopes),
        scratch=before,
        work=before + max(_bytes(library.block_scratch(shape)) for shape in shapes),
    )


def _bytes(*sizes: int) -> int:
    """Of that many numbers, up to where the next ones begin: at a line of the cache."""
    return -(-math.prod(sizes) * FLOAT // LINE) * LINE


class _Blocks(torch.autograd.Function):
    """Images (N, C, H, W) in channels last, and three weights of each block -> (N, C', H', W') in channels last.

    With a mean over pixels (N, C').
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, blocks: list[Block], room: Room, library: ctypes.CDLL, *weights: Tensor
    ) -> Tensor:
        n, h, w, channels = room.last
        result = images.new_empty((n, channels) if room.mean else room.last)
        kept, work = _memory(images, room.kept), _memory(images, room.work - room.scratch)
        base, x = kept.data_ptr(), images.data_ptr()
        for number, (block, shape) in enumerate(zip(blocks, room.shapes, strict=True)):
            whole = number == len(blocks) - 1 and not room.mean
            out = result.data_ptr() if whole else base + room.out[number]
            library.block_forward(
                shape, x, block.kernels.data_ptr(), native.strides(block.kernels.stride()),
                block.norm.given(base + room.statistics[number]), base + room.middle[number], out, work.data_ptr(),
            )  # fmt: skip
            x = out
        if room.mean:
            library.spatial_mean(x, result.data_ptr(), n, h * w, channels)
        count_batch([block.norm for block in blocks])
        ctx.save_for_backward(images, kept, *weights)
        ctx.blocks, ctx.room, ctx.library = blocks, room, library
        return result if room.mean else result.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (images, kept, *weights), room, library = ctx.saved_tensors, ctx.room, ctx.library
        slope = slope.contiguous() if room.mean else slope.permute(0, 2, 3, 1).contiguous()
        work = _memory(images, room.work)
        base, room_for, of_out = kept.data_ptr(), work.data_ptr(), slope.data_ptr()
        if room.mean:
            n, h, w, channels = room.last
            library.spatial_mean_backward(of_out, room_for + room.slopes[-1], n, h * w, channels)
            of_out = room_for + room.slopes[-1]
        slopes = [torch.empty_like(weight) for weight in weights]
        for number, (block, shape) in reversed(list(enumerate(zip(ctx.blocks, room.shapes, strict=True)))):
            of_x = room_for + room.slopes[number] if number else None  # the images need none
            library.block_backward(
                shape, of_out, base + room.out[number - 1] if number else images.data_ptr(), base + room.middle[number],
                block.kernels.data_ptr(), native.strides(block.kernels.stride()),
                block.norm.given(base + room.statistics[number]),
                *(one.data_ptr() for one in slopes[3 * number : 3 * number + 3]), of_x, room_for + room.scratch,
            )  # fmt: skip
            of_out = of_x or 0
        return None, None, None, None, *slopes


def _memory(like: Tensor, size: int) -> Tensor:
    return like.new_empty(size // FLOAT)
