"""Columns are divided by their spread; constant ones become 0, whatever the scale of the features is."""

import pytest
import torch

from cl_semisup.measures.column_scale import column_scale


@pytest.mark.parametrize("largest", [1e-3, 0.5, 1.0, 1e6])
def test_of_usual_features_a_column_is_constant_up_to_a_millionth(largest: float) -> None:
    random = torch.Generator().manual_seed(0)
    spread = largest * 10 ** (-12 * torch.rand(500, generator=random))
    spread[0] = largest
    mean = 10 ** (8 * torch.rand(500, generator=random) - 4) * torch.randn(500, generator=random)
    expected = torch.where(spread > 1e-6 * (1 + mean.abs()), spread, torch.inf)
    assert torch.equal(column_scale(mean, spread), expected)
    assert 0 < expected.isinf().sum() < 500


@pytest.mark.parametrize("power", [-10, -30, -60])
def test_tiny_features_are_divided_by_their_spread_too(power: int) -> None:
    spread = torch.tensor([1e-3, 5e-4, 1e-10, 0.0], dtype=torch.float64)
    mean = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    factor = 2.0**power
    found = column_scale(mean * factor, spread * factor)
    assert torch.equal(found / factor, column_scale(mean, spread))
    assert found.isinf().tolist() == [False, False, True, True]


def test_where_nothing_differs_all_columns_are_constant() -> None:
    assert column_scale(torch.zeros(3), torch.zeros(3)).isinf().all()
