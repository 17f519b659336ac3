"""Which fast paths a machine takes: kernels, bfloat16, compiled encoders, recorded steps; with `plain` none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cl_semisup import native
from cl_semisup.contrast import chunked
from cl_semisup.device import has_bfloat16
from cl_semisup.execution.machine import Machine
from cl_semisup.native import blocks, view_kernel
from cl_semisup.training import exchange


@contextmanager
def kernel_context(machine: Machine) -> Iterator[None]:
    """A context within which this machine's runs are executed: with kernels, or without any fast path (`plain`)."""
    if machine.plain:
        with chunked.dense():
            yield
    else:
        with native.used(machine.wants_kernels()), view_kernel.used(machine.wants_view_kernel()):
            yield


def resolved_precision(precision: str, machine: Machine) -> str:
    """The dtype of the network's computations: `auto` is bfloat16 on a GPU that supports it, else float32."""
    if machine.plain:
        return "float32"
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16(torch.device(machine.device)) else "float32"


def fast_encoder(encoder: torch.nn.Module, machine: Machine) -> Callable[[Tensor], Tensor]:
    """What encodes a batch in training: compiled code, kernels in C, or the encoder itself."""
    if getattr(encoder, "frozen", ()):  # their batch norms do not use the statistics of the batch
        return encoder
    if machine.compile and not machine.plain:
        return compiled(encoder, torch.device(machine.device))
    # With several processes batch norm must synchronise, which the kernels in C cannot.
    return blocks.fast_encoder(encoder) if exchange.world_size() == 1 else encoder


def not_recorded(machine: Machine, chunks: int) -> str:
    """Why no step of a training is to be recorded as a CUDA graph; "" if one is."""
    reasons = {
        "this is no CUDA device": torch.device(machine.device).type != "cuda",
        "the machine is not to": machine.plain or not machine.graphs,
        "the encoder is compiled": machine.compile,
        "batches are in chunks": chunks > 1,
        "there are several processes": exchange.world_size() > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def compiled(encoder: torch.nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The compiled encoder, for training steps only. torch caches the code on disk for other processes.

    On a GPU each call replays a CUDA graph. The next replay overwrites its output, so the output is copied.
    """
    if device.type != "cuda":
        return torch.compile(encoder)
    replay = torch.compile(encoder, mode="reduce-overhead")
    return lambda inputs: replay(inputs).clone()


def disable_fused_steps(optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer update one tensor at a time."""
    for group in optimizer.param_groups:
        group |= {"fused": False, "foreach": False}
