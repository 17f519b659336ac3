"""Sums over pairs in C against torch, and both against double precision."""

import pytest
import torch
from torch import nn

from cl_semisup import native
from cl_semisup.native.pairs import log_sum_and_partner
from tests.helpers.kernels import needs_kernels


@needs_kernels
@pytest.mark.parametrize("rows", [2, 6, 16, 128, 250])
@pytest.mark.parametrize("alike", [False, True])
def test_sums_over_pairs_are_those_of_torch(rows: int, alike: bool) -> None:
    """Values and gradients in C and in torch, and both in double precision; also with equal ids and empty sums."""
    generator = torch.Generator().manual_seed(rows)
    z = nn.functional.normalize(torch.randn(rows, 24, generator=generator, dtype=torch.float64), dim=1)
    ids = torch.randint(0, 3, (rows,), generator=generator) if alike else torch.arange(rows)
    gradients = torch.randn(2, rows, generator=generator, dtype=torch.float64)
    found = []
    for kernels, kind in ((True, torch.float32), (False, torch.float32), (True, torch.float64)):
        leaf = z.to(kind).requires_grad_()
        with native.used(kernels):
            total, partner = log_sum_and_partner(leaf, 0.07, ids)
        some = torch.isfinite(total)
        ((total * gradients[0].to(kind))[some].sum() + (partner * gradients[1].to(kind)).sum()).backward()
        found.append((total.detach(), partner.detach(), leaf.grad))
    for in_c, in_torch, exact in zip(*found, strict=True):
        torch.testing.assert_close(in_c, exact.float(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(in_c, in_torch, rtol=1e-4, atol=1e-4)


@needs_kernels
def test_a_row_with_an_empty_sum_has_minus_infinity_and_no_gradient() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    total, partner = log_sum_and_partner(z, 0.5, torch.zeros(4, dtype=torch.long))
    assert bool((total == -torch.inf).all())
    partner.sum().backward()
    expected = torch.cat([z[2:], z[:2]]).detach() * 2 / 0.5
    torch.testing.assert_close(z.grad, expected)


@needs_kernels
def test_sums_with_nan_are_nan() -> None:
    z = torch.randn(20, 3)
    z[4, 1] = torch.nan
    total, partner = log_sum_and_partner(z, 0.5, torch.arange(20))
    assert bool(torch.isnan(total).all())
    assert bool(torch.isnan(partner[[4, 14]]).all())
