"""One batch on several processes, as `torchrun` starts them, with the losses and gradients of one process.

Every process draws the same batch and the same views, since draws are functions of names. The network runs on shards:
process r takes the rows [r n / R, (r + 1) n / R) of a batch of n, and the outputs are gathered in the batch's order.
All that comes after sees the whole batch on every process: the loss with its queue, heads, prototypes and attacks. A
loss therefore needs no word about processes, and its negatives are those of the whole batch.

The factor that is easily lost. With z_r = f(x_r; w) the outputs of shard r and J_r = dz_r/dw,

    dL/dw = sum_r J_r^T g_r,    g_r = dL/dz_r

L is computed whole on every process, so each knows all of g and keeps its own rows: the backward of gathering is taking
a slice. Process r then has J_r^T g_r, and the gradients of the shards are *summed*:

    gather, then sum      sum_r J_r^T g_r                         dL/dw
    gather, then mean     1/R sum_r J_r^T g_r                     dL/dw / R: too small by the number of processes
    sum in the gather     sum_r J_r^T (R g_r): R copies of L      R dL/dw, right only if a mean over processes follows

DistributedDataParallel takes the mean, which belongs to a loss that is a mean over the images of each process. Beside
it, a gather that keeps its own rows trains with a learning rate R times too small. Here parameters that act on shards
(encoder, projector) are summed; those that act on the gathered batch have the whole gradient everywhere.

Taking a shard and gathering it are each other's transpose: inputs with a gradient, as in an attack on the images, get
it whole on every process. Batch norm within shards has the statistics of the whole batch (`batch_norm`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cl_semisup.training import batch_norm
from cl_semisup.training.exchange import all_gather, heard, rank, rows, size
from cl_semisup.training.model import Model

Outputs = tuple[Tensor, ...]
_inside = False  # is this process computing on its shard?


def on_shards(function: Callable[[Tensor], Outputs], inputs: Tensor) -> Outputs:
    """`function(inputs)`, each process doing its rows and having all: (n, ...) -> tensors (n, ...).

    The rows of an output must be those of the input; what joins rows, as batch norm does, must do so over processes.
    """
    if size() == 1:
        return function(inputs)
    shard = _Take.apply(inputs) if inputs.requires_grad else inputs[rows(len(inputs))]
    with on_shard():
        outputs = function(shard)
    # each by itself: joined, what a loss leaves alone would have a gradient of zeros, and weights that decay by it
    return tuple(_Gather.apply(output, len(inputs)) for output in outputs)


@contextmanager
def on_shard() -> Iterator[None]:
    """What the network is given in here is this process's shard."""
    global _inside
    before, _inside = _inside, True
    try:
        yield
    finally:
        _inside = before


def begin(model: Model, loss: object) -> None:
    """Make a network fit for shards, in place; every process starts from the first one's state."""
    if size() == 1:
        return
    batch_norm.share(model)
    for part in (model.encoder, model.projector):
        part.register_forward_pre_hook(_only_on_shards)
    _copy_from_first([*_state(model), *_state(loss)])


def finish_gradients(model: Model, loss: object) -> None:
    """After `backward`: sum what came from shards; where all have the whole, the first one's rounding holds."""
    if size() == 1:
        return
    on_shard = [*model.encoder.parameters(), *model.projector.parameters()]
    own = {id(p) for p in on_shard}
    whole = [p for p in (*model.parameters(), *_parameters(loss)) if id(p) not in own]
    _sum([p.grad for p in on_shard if p.grad is not None])
    remembered = list(loss.buffers()) if isinstance(loss, nn.Module) else []
    _copy_from_first([*(p.grad for p in whole if p.grad is not None), *remembered])


class _Gather(torch.autograd.Function):
    """A shard -> the whole batch; backward: the shard's rows of the gradient, which every process has whole."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int) -> Tensor:
        ctx.rows = rows(count)
        return all_gather(part, count)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return slope[ctx.rows], None


class _Take(torch.autograd.Function):
    """The whole batch -> a shard; backward: the gradients of all shards."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor) -> Tensor:
        ctx.count = len(whole)
        return whole[rows(len(whole))].clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return all_gather(slope, ctx.count)


def _only_on_shards(module: nn.Module, inputs: object) -> None:
    """Elsewhere the network would see the whole batch on every process, and its gradient would count R times."""
    if module.training and not _inside and size() > 1:
        raise RuntimeError("the network must be called through parallel.on_shards where there are several processes.")


@torch.no_grad()
def _sum(tensors: list[Tensor]) -> None:
    """Over processes, in place, one exchange a kind of number."""
    for alike in _by_kind(tensors):
        flat = torch.cat([t.reshape(-1) for t in alike])
        with heard():
            distributed.all_reduce(flat)
        for t, summed in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
            t.copy_(summed.view(t.shape))


@torch.no_grad()
def _copy_from_first(tensors: list[Tensor]) -> None:
    """In place, in one exchange: as bytes, for any kind of number; the widest first, so that all stay aligned."""
    if not tensors:
        return
    tensors = sorted(tensors, key=lambda t: -t.element_size())
    flat = torch.cat([t.detach().reshape(-1).view(torch.uint8) for t in tensors])
    with heard():
        distributed.broadcast(flat, src=0)
    if rank() > 0:
        for t, first in zip(tensors, flat.split([t.numel() * t.element_size() for t in tensors]), strict=True):
            t.copy_(first.view(t.dtype).view(t.shape))


def _by_kind(tensors: list[Tensor]) -> list[list[Tensor]]:
    kind = lambda t: str(t.dtype)  # noqa: E731
    return [list(alike) for _, alike in groupby(sorted(tensors, key=kind), kind)]


def _parameters(module: object) -> Iterable[nn.Parameter]:
    return module.parameters() if isinstance(module, nn.Module) else ()


def _state(module: object) -> list[Tensor]:
    if not isinstance(module, nn.Module):
        return []
    return [*module.parameters(), *module.buffers()]
