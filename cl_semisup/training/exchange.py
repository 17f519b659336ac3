"""Communication between the processes (ranks) of one training, and the rows of a batch that each rank has."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from cl_semisup.errors import ProcessMustStop


class ProcessLost(ProcessMustStop):
    """Another process of this training has died or does not answer. The training cannot go on; no run is at fault."""


def world_size() -> int:
    """R, the number of processes; 1 without torch.distributed."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, in [0, R). Rank 0 writes files."""
    return distributed.get_rank() if world_size() > 1 else 0


def shard_rows(count: int, of_rank: int | None = None) -> slice:
    """The rows of a batch of `count` that a rank (default: this one) has. Shards differ in size by one at most."""
    r = rank() if of_rank is None else of_rank
    return slice(r * count // world_size(), (r + 1) * count // world_size())


def all_gather(shard: Tensor, count: int) -> Tensor:
    """(n, ...) of each rank -> (count, ...), in the order of ranks."""
    longest = -(-count // world_size())
    if len(shard) < longest:
        shard = torch.cat([shard, shard.new_zeros(longest - len(shard), *shard.shape[1:])])
    shards = [torch.empty_like(shard, memory_format=torch.contiguous_format) for _ in range(world_size())]
    with comm_errors():
        distributed.all_gather(shards, shard.contiguous())
    return torch.cat([each[: len(range(count)[shard_rows(count, r)])] for r, each in enumerate(shards)])


@contextmanager
def comm_errors() -> Iterator[None]:
    """Turn the RuntimeError of a failed collective into ProcessLost. Every collective is called within this context."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ProcessLost(f"process {rank()} of {world_size()} hears nothing from another: {error}") from error
