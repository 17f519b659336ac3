"""Every operation of RandAugment is torchvision's, pixel by pixel; each image has its own."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from cl_semisup.data.views import Draw
from cl_semisup.views import randaugment
from cl_semisup.views.randaugment import OPERATIONS, RandAugment

NAMES = {"shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY"}
SIDE = 16


def images(count: int = 6, channels: int = 3, side: int = SIDE) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return (fine * 255).round() / 255


def draw(count: int, seed: int = 0) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), torch.arange(count), torch.empty(count), 0)


def torchvisions(x: Tensor, operation: str, magnitude: float) -> Tensor:
    """One image through torchvision's own operation; `magnitude` in [-1, 1] is a share of its table's range."""
    name = NAMES.get(operation, {"autocontrast": "AutoContrast"}.get(operation, operation.capitalize()))
    recipe = v2.RandAugment(interpolation=InterpolationMode.BILINEAR)
    law, signed = recipe._AUGMENTATION_SPACE[name]
    table = law(1001, SIDE, SIDE)  # its entries are those of magnitudes 0, 0.001, ..., 1
    size = 0.0 if table is None else float(table[round(1000 * abs(magnitude))])
    size = -size if signed and magnitude < 0 else size
    return recipe._apply_image_or_video_transform(x, name, size, recipe.interpolation, recipe._fill)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_torchvisions(operation: str, channels: int) -> None:
    x = images(channels=channels)
    signed = torch.tensor([0.0, 0.25, -0.25, 0.6, -1.0, 1.0])
    chosen = torch.full((6,), OPERATIONS.index(operation))
    found = randaugment.geometric(x, chosen, signed)
    if operation not in ("identity", *randaugment.GEOMETRIC):
        torch.testing.assert_close(found, x, rtol=0, atol=0)
        found = randaugment.recolor(x, operation, signed.abs(), signed)
    for i in range(6):
        torch.testing.assert_close(found[i], torchvisions(x[i], operation, float(signed[i])), rtol=0, atol=2e-5)


@pytest.mark.parametrize("law", ["fixed", "uniform"])
def test_each_image_goes_through_the_operations_that_it_drew(law: str) -> None:
    """The same numbers, taken in the same order, and torchvision applied image by image."""
    x, settings = images(60), RandAugment(operations=3, magnitude=0.5, law=law)
    found = settings.view(x, draw(60, 3))
    random, expected = torch.Generator().manual_seed(3), x.clone()
    for _ in range(3):
        chosen = torch.randint(len(OPERATIONS), (60,), generator=random)
        sign, share = torch.rand(2, 60, generator=random)
        for i in range(60):
            magnitude = 0.5 * (float(share[i]) if law == "uniform" else 1.0)
            operation = OPERATIONS[int(chosen[i])]
            if law == "uniform" and operation not in ("identity", "autocontrast", "equalize", "solarize"):
                magnitude = round(magnitude, 3)  # torchvision has a table of magnitudes
            expected[i] = torchvisions(expected[i], operation, -magnitude if sign[i] < 0.5 else magnitude)
    difference = (found - expected).abs()  # equalize and posterize make steps of rounding errors
    if law == "fixed":
        assert (difference < 1e-4).double().mean() > 0.9999
    else:
        assert (difference < 0.02).double().mean() > 0.9


def test_every_operation_is_drawn_equally_often() -> None:
    x = images(1).expand(4200, -1, -1, -1)
    found = RandAugment(operations=1, magnitude=1.0).view(x, draw(4200))
    unchanged = int((found == x).flatten(1).all(dim=1).sum())
    assert abs(unchanged - 300) < 4 * 17  # the identity alone


def test_a_cutout_is_a_grey_square() -> None:
    x = images(8)
    numbers = torch.rand(3, 8, generator=torch.Generator().manual_seed(2))
    found = randaugment.cutout(x, 0.5, numbers)
    for i in range(8):
        half = float(numbers[0, i]) * 0.5 * SIDE / 2
        for row in range(SIDE):
            for column in range(SIDE):
                near = max(abs(column + 0.5 - SIDE * numbers[1, i]), abs(row + 0.5 - SIDE * numbers[2, i])) < half
                expected = torch.full((3,), 0.5) if near else x[i, :, row, column]
                torch.testing.assert_close(found[i, :, row, column], expected, rtol=0, atol=0)
    whole = RandAugment(magnitude=0.0, cutout=1.0).view(x, draw(8))
    assert bool((whole == 0.5).any())


def test_pixels_stay_in_their_range() -> None:
    noisy = images(40) * 1.4 - 0.2
    found = RandAugment(operations=4, magnitude=1.0, law="uniform").view(noisy, draw(40))
    assert found.min() >= 0
    assert found.max() <= 1
