"""What ranks compute together, with threads as ranks: batch norm over shards, and the state of rank 0."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from cl_semisup.training import batch_norm, parallel

Ranks = Callable[[Callable[[int], Any]], list[Any]]
ROWS = (5, 3)  # of the shard of each rank


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    """Call a function of the rank once in every rank."""
    meet = threading.Barrier(len(ROWS), timeout=60)
    here, seen = threading.local(), [torch.empty(0)] * len(ROWS)

    def exchanged(tensor: Tensor) -> list[Tensor]:
        seen[here.rank] = tensor.detach().clone()
        meet.wait()
        found = list(seen)
        meet.wait()
        return found

    def gather(into: list[Tensor], tensor: Tensor) -> None:
        for place, found in zip(into, exchanged(tensor), strict=True):
            place.copy_(found)

    def broadcast(tensor: Tensor, src: int) -> None:
        tensor.copy_(exchanged(tensor)[src])

    def run(function: Callable[[int], Any]) -> list[Any]:
        def work(rank: int) -> Any:
            here.rank = rank
            return function(rank)

        with ThreadPoolExecutor(len(ROWS)) as pool:
            return list(pool.map(work, range(len(ROWS))))

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: len(ROWS))
    monkeypatch.setattr(distributed, "get_rank", lambda: here.rank)
    monkeypatch.setattr(distributed, "all_gather", gather)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.copy_(sum(exchanged(tensor))))
    monkeypatch.setattr(distributed, "broadcast", broadcast)
    return run


@pytest.mark.parametrize("momentum", [0.1, None])  # None: the mean over all batches
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_on_shards_is_torchs_on_the_whole_batch(
    ranks: Ranks, momentum: float | None, affine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_norm, "_disable_compile", lambda: None)  # importing the compiler takes seconds
    generator = torch.Generator().manual_seed(0)
    whole = nn.BatchNorm2d(4, momentum=momentum, affine=affine).double()
    batches = [torch.randn(sum(ROWS), 4, 2, 3, generator=generator, dtype=torch.float64) for _ in range(3)]
    toward = torch.randn(sum(ROWS), 4, 2, 3, generator=generator, dtype=torch.float64)
    if affine:
        nn.init.normal_(whole.weight, generator=generator)
    copies = [nn.Sequential(nn.BatchNorm2d(4, momentum=momentum, affine=affine)).double() for _ in ROWS]
    for copied in copies:
        copied[0].load_state_dict(whole.state_dict())
        batch_norm.convert_sync_batch_norm(copied)

    def outputs(rank: int) -> tuple[list[Tensor], Tensor]:
        x = [batch.split(ROWS)[rank] for batch in batches]
        x[-1].requires_grad_()
        y = [copies[rank](each) for each in x]
        (y[-1] * toward.split(ROWS)[rank]).sum().backward()
        assert x[-1].grad is not None
        return [each.detach() for each in y], x[-1].grad

    made = ranks(outputs)
    batches[-1].requires_grad_()
    expected = [whole(batch) for batch in batches]
    (expected[-1] * toward).sum().backward()
    for step, y in enumerate(expected):
        torch.testing.assert_close(torch.cat([found[0][step] for found in made]), y.detach())
    torch.testing.assert_close(torch.cat([found[1] for found in made]), batches[-1].grad)
    for copied in copies:
        torch.testing.assert_close(copied[0].state_dict(), whole.state_dict())
    for p, *of_shards in zip(whole.parameters(), *(copied.parameters() for copied in copies), strict=True):
        torch.testing.assert_close(sum(each.grad for each in of_shards), p.grad)  # each has the part of its shard


def test_every_rank_gets_the_state_of_rank_0_to_the_bit(ranks: Ranks) -> None:
    def state(rank: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(rank)
        kinds = (torch.bool, torch.float32, torch.int64, torch.bfloat16, torch.float64)
        return [(100 * torch.randn(3, 2, generator=generator)).to(kind) for kind in kinds] + [torch.tensor(rank)]

    held = [state(rank) for rank in range(len(ROWS))]
    ranks(lambda rank: parallel._broadcast(held[rank]))
    for mine in held:
        assert all(torch.equal(a, b) for a, b in zip(mine, state(0), strict=True))
