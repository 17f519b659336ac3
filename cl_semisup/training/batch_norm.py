"""Batch norm over the shards of several processes: mean and variance are those of the whole batch.

PyTorch's own SyncBatchNorm wants CUDA; this one runs wherever tensors can be exchanged, and shards may differ in size.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cl_semisup.errors import InputError
from cl_semisup.training.exchange import all_gather, heard, size


def share(model: nn.Module) -> None:
    """Turn every batch norm of a model into one over all processes, in place: weights, buffers and names stay."""
    _leave_uncompiled()
    for name, module in model.named_modules():
        if type(module) in _SHARED:
            module.__class__ = _SHARED[type(module)]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            rule = f"must be one of {', '.join(sorted(kind.__name__ for kind in _SHARED))} to run on several processes"
            raise InputError(f"{name}: batch norm {rule}. Got {type(module).__name__}. Run it on one process.")


class _Shared(nn.modules.batchnorm._BatchNorm):
    """In evaluation it is the one it was; in training it looks at the shards of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        count, mean, variance = _statistics(x.detach())
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._remember(count, mean, variance)
        deviation = (variance + self.eps).rsqrt()
        normed: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, deviation, count)
        return normed

    @torch.no_grad()
    def _remember(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """As PyTorch's: the variance that is remembered is the unbiased one."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)


@cache
def _leave_uncompiled() -> None:
    """Keep torch.compile from tracing exchanges. Said here, as saying so imports the compiler, which takes seconds."""
    _Shared.forward = torch.compiler.disable(_Shared.forward)  # type: ignore[method-assign]


class _Shared1d(_Shared, nn.BatchNorm1d): ...


class _Shared2d(_Shared, nn.BatchNorm2d): ...


class _Shared3d(_Shared, nn.BatchNorm3d): ...


_SHARED: dict[type, type] = {nn.BatchNorm1d: _Shared1d, nn.BatchNorm2d: _Shared2d, nn.BatchNorm3d: _Shared3d}


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values a channel (), mean (C,) and biased variance (C,) of all shards; one exchange.

    Means and squared distances of shards are joined (Chan's update), which loses no digits as sums of squares do.
    """
    x = _wide(x)
    variance, mean = torch.var_mean(x, dim=_rest(x), correction=0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
    every = all_gather(own[None], size())  # (R, 2 C + 1)
    means, variances, counts = every[:, : len(mean)], every[:, len(mean) : -1], every[:, -1:]
    count = counts.sum()
    mean = (counts * means).sum(dim=0) / count
    return count, mean, (counts * (variances + (means - mean).square())).sum(dim=0) / count


class _Normalise(torch.autograd.Function):
    """y = w (x - mean) deviation + b, where the mean and the deviation depend on the x of every shard.

    With u = (x - mean) deviation, g = dL/dy and n values a channel, over all shards:

        dL/dx = w deviation (g - sum g / n - u sum(g u) / n),    dL/dw = sum(g u),    dL/db = sum g

    The sums in dL/dx are over all shards; dL/dw and dL/db stay those of this one, as of any parameter on shards.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, deviation: Tensor, count: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, deviation, count)
        scale = deviation if weight is None else weight * deviation
        y = (_wide(x) - _channels(mean, x)) * _channels(scale, x)
        return (y if bias is None else y + _channels(bias, x)).to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, deviation, count = ctx.saved_tensors
        g, u = _wide(slope), (_wide(x) - _channels(mean, x)) * _channels(deviation, x)
        rest = _rest(x)
        sums = torch.stack([g.sum(dim=rest), (g * u).sum(dim=rest)])  # (2, C)
        dx = None
        if ctx.needs_input_grad[0]:
            of_all = sums.clone()
            with heard():
                distributed.all_reduce(of_all)
            of_all /= count
            scale = deviation if weight is None else weight * deviation
            dx = _channels(scale, x) * (g - _channels(of_all[0], x) - u * _channels(of_all[1], x))
            dx = dx.to(x.dtype)
        dw = sums[1].to(weight.dtype) if weight is not None and ctx.needs_input_grad[1] else None
        db = sums[0].to(weight.dtype) if weight is not None and ctx.needs_input_grad[2] else None
        return dx, dw, db, None, None, None


def _wide(x: Tensor) -> Tensor:
    """At least float32: half precision loses the variance."""
    return x if x.dtype == torch.float64 else x.float()


def _rest(x: Tensor) -> list[int]:
    """All dimensions but the channels."""
    return [0, *range(2, x.ndim)]


def _channels(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), to go with x."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
