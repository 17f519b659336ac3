"""Losses of large batches, a chunk of rows at a time: value and gradient of the dense way, in little memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contrast import chunked

ROOT = Path(__file__).parents[2]
N, D = 37, 8  # no multiple of a chunk
FAMILY = ("nt_xent", "dcl", "info_nce", "supcon")


def solve(name: str, z1: Tensor, z2: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """The loss and its gradient."""
    inputs = [z.clone().requires_grad_() for z in (z1, z2)]
    value = losses.build(name, temperature=0.1)(*inputs, labels)
    return value.detach(), *torch.autograd.grad(value, inputs)


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    z1, z2 = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return z1, z2, torch.arange(N) % 5 - 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Matrices count as large from 100 entries on; every chunked sum is noted."""
    monkeypatch.setattr(chunked, "MAX_ENTRIES", 100)
    monkeypatch.setattr(chunked, "CHUNK_ENTRIES", 5 * N)
    used: list[int] = []
    log_sum = chunked.log_sum
    monkeypatch.setattr(chunked, "log_sum", lambda *words: (used.append(1), log_sum(*words))[1])
    return used


@pytest.mark.parametrize("name", FAMILY)
def test_value_and_gradient_are_those_of_the_dense_way(name: str, small: list[int]) -> None:
    found = solve(name, *batch())
    assert small == [1]
    with chunked.dense():
        expected = solve(name, *batch())
    assert small == [1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["nt_xent", "dcl"])
def test_the_derivative_written_out_has_the_digits_of_torch_s_own(name: str) -> None:
    found = solve(name, *batch(torch.float32))
    with chunked.dense():
        expected = solve(name, *batch(torch.float32))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    one_image = [z[:1] for z in batch(torch.float32)]  # with dcl no row is told from any
    assert all(bool(torch.isfinite(each).all()) for each in solve(name, *one_image))


@pytest.mark.parametrize("name", FAMILY)
def test_half_precision_projections_are_compared_in_float32(name: str, small: list[int]) -> None:
    z1, z2, labels = batch(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = solve(name, z1, z2, labels)
    for one, other in zip(found, solve(name, z1, z2, labels), strict=True):
        torch.testing.assert_close(one, other)
    assert all(bool(torch.isfinite(g).all()) for g in solve(name, 1e-30 * z1, z2, labels))


def test_a_row_with_nobody_to_be_told_from_has_no_gradient(small: list[int]) -> None:
    z = torch.randn(6, D, dtype=torch.float64, requires_grad=True)
    ids = torch.zeros(6, dtype=torch.long)
    ids[-1] = 1
    total = chunked.log_sum(z[:5], z[:5], 0.1, ids[:5], ids[:5])
    assert bool((total == -torch.inf).all())
    (gradient,) = torch.autograd.grad(total[torch.isfinite(total)].sum() + 0 * z.sum(), z)
    assert bool((gradient == 0).all())
    mixed = chunked.log_sum(z, z, 0.1, ids, ids)
    (gradient,) = torch.autograd.grad(mixed.sum(), z)
    assert bool(torch.isfinite(gradient).all())


BIG = """
import resource, torch
from cl_semisup import losses
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
z1, z2 = torch.randn(2, 4096, 16)
z1.requires_grad_()
losses.build("nt_xent")(z1, z2).backward()
assert torch.isfinite(z1.grad).all()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_large_batch_takes_little_memory() -> None:
    """8,192 rows: their matrix has 256 MiB, and the dense way holds several of its size."""
    done = subprocess.run([sys.executable, "-c", BIG], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200  # MiB
