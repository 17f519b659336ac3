"""The processes of one training, the rows of a batch that each has, and how these come together."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


class Lost(BaseException):
    """Another process of this training is gone or silent: nothing can be computed any more, and no run is at fault."""


def size() -> int:
    """R, the number of processes; 1 where nobody started several."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """r, of this process; 0 is the one that writes."""
    return distributed.get_rank() if size() > 1 else 0


def rows(count: int, of: int | None = None) -> slice:
    """The rows of a batch of `count` that belong to a process, this one by default; sizes differ by one at most."""
    of = rank() if of is None else of
    return slice(of * count // size(), (of + 1) * count // size())


def length(count: int, of: int) -> int:
    """How many rows of a batch belong to a process."""
    own = rows(count, of)
    return own.stop - own.start


def all_gather(part: Tensor, count: int) -> Tensor:
    """(count, ...): the shards of all processes, in order."""
    most = -(-count // size())
    if len(part) < most:
        part = torch.cat([part, part.new_zeros(most - len(part), *part.shape[1:])])
    found = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(size())]
    with heard():
        distributed.all_gather(found, part.contiguous())
    return torch.cat([every[: length(count, of)] for of, every in enumerate(found)])


@contextmanager
def heard() -> Iterator[None]:
    """Around every exchange: one that fails says that another process is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Lost(f"process {rank()} of {size()} hears nothing from another: {error}") from error
