"""One batch on several processes (ranks), as `torchrun` starts them, with the losses and gradients of one process.

Every rank draws the same batch and the same views, since draws are functions of names. The network runs on shards:
rank r takes the rows [r n / R, (r + 1) n / R) of a batch of n, and the outputs are gathered in the order of the batch.
Every rank computes the rest for the whole batch: the loss with its queue, heads, prototypes and attacks. A loss
therefore does not know about ranks, and its negatives are those of the whole batch.

How gradients are reduced. With z_r = f(x_r; w) the outputs of shard r and J_r = dz_r/dw,

    dL/dw = sum_r J_r^T g_r,    g_r = dL/dz_r

Every rank computes L of the whole batch. So each knows all of g and keeps its own rows: the backward of gathering takes
a slice. Rank r then has J_r^T g_r, and the gradients of the shards are *summed*:

    gather, then sum      sum_r J_r^T g_r                         dL/dw
    gather, then mean     1/R sum_r J_r^T g_r                     dL/dw / R: too small by the number of ranks
    sum in the gather     sum_r J_r^T (R g_r): R copies of L      R dL/dw, right only if a mean over ranks follows

DistributedDataParallel takes the mean, which is right for a loss that is a mean over the images of each rank. Here the
gradients of parameters that act on shards (encoder, projector) are summed; those of parameters that act on the gathered
batch are dL/dw on every rank.

Taking a shard is the transpose of gathering. So inputs that need a gradient, as in an attack on the images, get all of
it on every rank. Batch norm within shards uses the statistics of the whole batch (`batch_norm`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cl_semisup.training import batch_norm
from cl_semisup.training.exchange import all_gather, comm_errors, rank, shard_rows, world_size
from cl_semisup.training.model import Model

Outputs = tuple[Tensor, ...]
_inside = False  # whether this process is computing on its shard


def run_sharded(function: Callable[[Tensor], Outputs], inputs: Tensor) -> Outputs:
    """`function(inputs)`: (n, ...) -> tensors (n, ...). Every rank computes its rows and gets all rows.

    Row i of an output belongs to row i of the input. If rows depend on each other, as in batch norm, `function` must
    communicate between ranks.
    """
    if world_size() == 1:
        return function(inputs)
    shard = _Take.apply(inputs) if inputs.requires_grad else inputs[shard_rows(len(inputs))]
    with inside_shard():
        outputs = function(shard)
    # Each output is gathered separately. Concatenated, an output that the loss does not use would get a gradient of
    # zeros instead of None, and the optimizer would then apply weight decay to its weights.
    return tuple(_Gather.apply(output, len(inputs)) for output in outputs)


@contextmanager
def inside_shard() -> Iterator[None]:
    """Declare that the network's inputs within are the shard of this rank."""
    global _inside
    before, _inside = _inside, True
    try:
        yield
    finally:
        _inside = before


def prepare_model(model: Model, loss: object) -> None:
    """Prepare a network for shards, in place. All ranks start from rank 0's parameters and buffers."""
    if world_size() == 1:
        return
    batch_norm.convert_sync_batch_norm(model)
    for module in (model.encoder, model.projector):
        module.register_forward_pre_hook(_check_inside_shard)
    _broadcast([*_state(model), *_state(loss)])


def reduce_gradients(model: Model, loss: object) -> None:
    """After `backward`: sum the gradients that were computed on shards.

    All other gradients and the loss's buffers are complete on every rank. All ranks take those of rank 0, so that they
    stay equal to the bit.
    """
    if world_size() == 1:
        return
    sharded_params = [*model.encoder.parameters(), *model.projector.parameters()]
    sharded_ids = {id(p) for p in sharded_params}
    loss_params, loss_buffers = (loss.parameters(), loss.buffers()) if isinstance(loss, nn.Module) else ((), ())
    other_params = [p for p in (*model.parameters(), *loss_params) if id(p) not in sharded_ids]
    _sum([p.grad for p in sharded_params if p.grad is not None])
    _broadcast([*(p.grad for p in other_params if p.grad is not None), *loss_buffers])


class _Gather(torch.autograd.Function):
    """A shard -> the whole batch. Backward: the shard's rows of the gradient, of which every rank has all rows."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor, count: int) -> Tensor:
        ctx.rows = shard_rows(count)
        return all_gather(shard, count)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return grad_output[ctx.rows], None


class _Take(torch.autograd.Function):
    """The whole batch -> a shard. Backward: the gradients of all shards."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor) -> Tensor:
        ctx.count = len(batch)
        return batch[shard_rows(len(batch))].clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return all_gather(grad_output, ctx.count)


def _check_inside_shard(module: nn.Module, inputs: object) -> None:
    """A network that sees the whole batch on every rank would get its gradient R times."""
    if module.training and not _inside and world_size() > 1:
        raise RuntimeError("the network must be called through parallel.run_sharded where there are several processes.")


@torch.no_grad()
def _sum(tensors: list[Tensor]) -> None:
    """Over ranks, in place, in one collective per dtype."""
    for dtype in sorted({t.dtype for t in tensors}, key=str):
        same_dtype = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.reshape(-1) for t in same_dtype])
        with comm_errors():
            distributed.all_reduce(flat)
        for t, summed in zip(same_dtype, flat.split([t.numel() for t in same_dtype]), strict=True):
            t.copy_(summed.view(t.shape))


@torch.no_grad()
def _broadcast(tensors: list[Tensor]) -> None:
    """From rank 0, in place, in one collective of bytes. The largest dtypes come first, so that all stay aligned."""
    if not tensors:
        return
    tensors = sorted(tensors, key=lambda t: -t.element_size())
    flat = torch.cat([t.detach().reshape(-1).view(torch.uint8) for t in tensors])
    with comm_errors():
        distributed.broadcast(flat, src=0)
    if rank() > 0:
        for t, sent in zip(tensors, flat.split([t.numel() * t.element_size() for t in tensors]), strict=True):
            t.copy_(sent.view(t.dtype).view(t.shape))


def _state(module: object) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []
