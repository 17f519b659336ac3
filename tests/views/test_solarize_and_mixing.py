"""Solarize, mixup and cutmix against torchvision and plain loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from cl_semisup.data.views import Draw
from cl_semisup.views.cutmix import CutMix
from cl_semisup.views.mixup import Mixup
from cl_semisup.views.solarize import Solarize

COUNT, SIDE = 30, 7


def stored() -> Tensor:
    return torch.randint(0, 256, (50, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def draw(seed: int = 5, data: Tensor | None = None) -> Draw:
    data = stored() if data is None else data
    return Draw(torch.Generator().manual_seed(seed), torch.arange(10, 10 + COUNT) % len(data), data, 0)


def images() -> Tensor:
    return stored()[10 : 10 + COUNT].float() / 255


def partners(random: torch.Generator) -> list[int]:
    steps = torch.randint(49, (COUNT,), generator=random)
    return [(10 + i + 1 + int(steps[i])) % 50 for i in range(COUNT)]


def test_a_solarised_image_is_torchvisions() -> None:
    x = images()
    found = Solarize(probability=0.4, threshold=0.6).view(x, draw())
    numbers = torch.rand(COUNT, generator=torch.Generator().manual_seed(5))
    for i in range(COUNT):
        expected = functional.solarize(x[i], 0.6) if numbers[i] < 0.4 else x[i]
        torch.testing.assert_close(found[i], expected, rtol=0, atol=0)


def test_mixup_adds_a_little_of_another_image() -> None:
    x, data = images(), stored()
    found = Mixup(probability=0.7, weight=0.4).view(x, draw())
    random = torch.Generator().manual_seed(5)
    shares, chosen = torch.rand(COUNT, generator=random), torch.rand(COUNT, generator=random)
    for i, other in enumerate(partners(random)):
        assert other != 10 + i
        share = 0.4 * float(shares[i]) if chosen[i] < 0.7 else 0.0
        for channel in range(3):
            for pixel in range(SIDE * SIDE):
                row, column = divmod(pixel, SIDE)
                mine, theirs = float(x[i, channel, row, column]), int(data[other, channel, row, column]) / 255
                assert found[i, channel, row, column] == pytest.approx((1 - share) * mine + share * theirs, abs=1e-6)


def test_cutmix_covers_a_box_with_another_image() -> None:
    x, data = images(), stored()
    found = CutMix(probability=0.8, area=0.5).view(x, draw())
    random = torch.Generator().manual_seed(5)
    numbers, chosen = torch.rand(3, COUNT, generator=random), torch.rand(COUNT, generator=random)
    others, covered = partners(random), 0
    for i, other in enumerate(others):
        length = math.sqrt(0.5 * float(numbers[0, i])) * SIDE
        left, top = SIDE * float(numbers[1, i]) - length / 2, SIDE * float(numbers[2, i]) - length / 2
        for row in range(SIDE):
            for column in range(SIDE):
                inside = left < column + 0.5 < left + length and top < row + 0.5 < top + length and chosen[i] < 0.8
                expected = data[other, :, row, column].float() / 255 if inside else x[i, :, row, column]
                torch.testing.assert_close(found[i, :, row, column], expected, rtol=0, atol=0)
                covered += inside
    assert 0 < covered < COUNT * SIDE * SIDE / 2


@pytest.mark.parametrize("view", [Mixup(), CutMix(probability=1.0)])
def test_the_only_image_mixes_with_itself(view: Any) -> None:
    data = stored()[:1]
    one = Draw(torch.Generator().manual_seed(0), torch.zeros(4, dtype=torch.long), data, 0)
    x = (data.float() / 255).expand(4, -1, -1, -1)
    torch.testing.assert_close(view.view(x, one), x)


def test_partners_are_uniform_over_the_other_images() -> None:
    data = torch.arange(5.0)[:, None, None, None]
    counts = torch.zeros(5, 5)
    for seed in range(40):
        index = torch.arange(250) % 5
        found = Draw(torch.Generator().manual_seed(seed), index, data, 0).partners().flatten().long()
        counts.index_put_((index, found), torch.ones(250), accumulate=True)
    assert bool((counts.diag() == 0).all())
    assert bool(((counts - 500 * (1 - torch.eye(5))).abs() < 5 * 500**0.5).all())


def test_features_can_be_mixed() -> None:
    data = torch.randn(50, 6, 1, 1)
    found = Mixup(weight=0.0).view(data[10:40], draw(data=data))
    torch.testing.assert_close(found, data[10:40], rtol=0, atol=0)
