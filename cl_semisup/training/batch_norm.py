"""Synchronized batch norm: mean and variance are those of the whole batch, over the shards of all processes.

Unlike PyTorch's SyncBatchNorm it also runs on CPUs (any torch.distributed backend), and shards may differ in size.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cl_semisup.errors import InputError
from cl_semisup.training.exchange import all_gather, comm_errors, world_size


def convert_sync_batch_norm(model: nn.Module) -> None:
    """Synchronize every batch norm of a model, in place; weights, buffers and names stay. InputError for a subclass."""
    _disable_compile()
    for name, module in model.named_modules():
        if type(module) in _SYNCED:
            module.__class__ = _SYNCED[type(module)]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            rule = f"must be one of {', '.join(sorted(kind.__name__ for kind in _SYNCED))} to run on several processes"
            raise InputError(f"{name}: batch norm {rule}. Got {type(module).__name__}. Run it on one process.")


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """In training it uses the statistics of all shards; in evaluation it is PyTorch's batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        count, mean, variance = _statistics(x.detach())
        if self.track_running_stats:
            self._update_running_stats(count, mean, variance)
        invstd = (variance + self.eps).rsqrt()
        y: Tensor = _Normalize.apply(x, self.weight, self.bias, mean, invstd, count)
        return y

    @torch.no_grad()
    def _update_running_stats(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """As in PyTorch: the running variance is unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), momentum)


@cache
def _disable_compile() -> None:
    """Keep torch.compile from tracing collectives. Done here, since it imports the compiler, which takes seconds."""
    _SyncBatchNorm.forward = torch.compiler.disable(_SyncBatchNorm.forward)  # type: ignore[method-assign]


_SYNCED: dict[type, type] = {
    batch_norm: type(f"_Sync{batch_norm.__name__}", (_SyncBatchNorm, batch_norm), {})
    for batch_norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
}


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values per channel (), mean (C,) and biased variance (C,) over all shards, in one collective.

    Chan's update combines means and variances; sums of squares would lose digits.
    """
    x = _upcast(x)
    variance, mean = torch.var_mean(x, dim=_reduced_dims(x), correction=0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
    gathered = all_gather(own[None], world_size())  # (R, 2 C + 1)
    means, variances, counts = gathered[:, : len(mean)], gathered[:, len(mean) : -1], gathered[:, -1:]
    count = counts.sum()
    mean = (counts * means).sum(dim=0) / count
    return count, mean, (counts * (variances + (means - mean).square())).sum(dim=0) / count


class _Normalize(torch.autograd.Function):
    """y = w (x - mean) s + b, where the mean and the inverse standard deviation s depend on the x of every shard.

    With u = (x - mean) s, g = dL/dy and n values per channel over all shards:

        dL/dx = w s (g - sum g / n - u sum(g u) / n),    dL/dw = sum(g u),    dL/db = sum g

    The sums in dL/dx are over all shards. dL/dw and dL/db are of this shard; `parallel.reduce_gradients` adds them up.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, count: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, invstd, count)
        scale = invstd if weight is None else weight * invstd
        y = (_upcast(x) - _channels(mean, x)) * _channels(scale, x)
        return (y if bias is None else y + _channels(bias, x)).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd, count = ctx.saved_tensors
        g, u = _upcast(grad_output), (_upcast(x) - _channels(mean, x)) * _channels(invstd, x)
        dims = _reduced_dims(x)
        sums = torch.stack([g.sum(dim=dims), (g * u).sum(dim=dims)])  # (2, C)
        dx = None
        if ctx.needs_input_grad[0]:
            means = sums.clone()
            with comm_errors():
                distributed.all_reduce(means)
            means /= count
            scale = invstd if weight is None else weight * invstd
            dx = _channels(scale, x) * (g - _channels(means[0], x) - u * _channels(means[1], x))
            dx = dx.to(x.dtype)
        dw = sums[1].to(weight.dtype) if weight is not None and ctx.needs_input_grad[1] else None
        db = sums[0].to(weight.dtype) if weight is not None and ctx.needs_input_grad[2] else None
        return dx, dw, db, None, None, None


def _upcast(x: Tensor) -> Tensor:
    """Half precision is too coarse for a variance."""
    return x if x.dtype == torch.float64 else x.float()


def _reduced_dims(x: Tensor) -> list[int]:
    """All dimensions except the channels."""
    return [0, *range(2, x.ndim)]


def _channels(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), which broadcasts against x."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
