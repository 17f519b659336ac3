"""Views in C against torch, from the same random numbers."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import native
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, draw
from cl_semisup.native import views
from tests.helpers.kernels import needs_kernels

RECIPES: dict[str, dict[str, float]] = {
    "nothing": {},
    "crop": {"crop_area": 0.08, "crop_ratio": 2.0},
    "affine": {"rotation": 30, "shift": 0.3, "zoom": 0.4},
    "flip": {"flip": 0.5},
    "brightness": {"brightness": 1.5},
    "contrast": {"contrast": 0.8},
    "saturation": {"saturation": 1.5},
    "hue": {"hue": 0.5, "jitter": 1.0},
    "grayscale": {"grayscale": 0.3},
    "blur": {"blur": 0.7},
    "negate": {"negate": 0.3},
    "noise": {"noise": 0.1},
    "weak": {"flip": 0.5, "shift": 0.125, "jitter": 0.0},
    "all": {
        "crop_area": 0.2,
        "flip": 0.5,
        "rotation": 10,
        "shift": 0.1,
        "zoom": 0.1,
        "brightness": 0.4,
        "contrast": 0.4,
    }
    | {"saturation": 0.4, "hue": 0.1, "grayscale": 0.2, "blur": 0.5, "negate": 0.1, "noise": 0.05},
}


def fits_c(make: ViewMaker, images: Tensor) -> bool:
    draws = draw(make.settings, images.shape, make.random, make.order_random)
    return views._fits(images, draws, make.mean)


@needs_kernels
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 13), (1, 48)])
def test_views_are_those_of_torch(recipe: str, channels: int, side: int) -> None:
    """From the same seed, with the same draws: what differs is rounding, most where an affine map looks for pixels."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(40, channels, 4, 4, generator=generator)
    images = (nn.functional.interpolate(coarse, size=side, mode="bilinear") * 255).round().to(torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:channels], torch.tensor([0.5, 0.25, 0.2])[:channels]
    make = ViewMaker(Views(**RECIPES[recipe]), mean, std)
    assert fits_c(make, images)
    for seed in range(5):
        found = make(images, seed)
        with native.used(False):
            wanted = make(images, seed)
        assert found.stride() == wanted.stride()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    if recipe in ("nothing", "flip"):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@needs_kernels
def test_views_of_images_in_channels_last_are_the_same() -> None:
    images = torch.randint(0, 256, (40, 12, 12, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    make = ViewMaker(Views(crop_area=0.3, hue=0.1), torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(make(images.permute(0, 3, 1, 2), 1), make(images.permute(0, 3, 1, 2).contiguous(), 1))


def test_views_that_c_cannot_make_are_made_by_torch() -> None:
    """Two channels, images that are not square, floats."""
    settings = Views(crop_area=0.5, brightness=0.5)
    for images in (
        torch.randint(0, 256, (4, 2, 8, 8)).to(torch.uint8),
        torch.randint(0, 256, (4, 3, 8, 10)).to(torch.uint8),
        torch.rand(4, 3, 8, 8) * 255,
    ):
        channels = images.shape[1]
        make = ViewMaker(settings, torch.zeros(channels), torch.ones(channels))
        assert not fits_c(make, images)
        found = make(images, 1)
        with native.used(False):
            torch.testing.assert_close(found, make(images, 1), rtol=0, atol=0)


@pytest.mark.parametrize("field", [field.name for field in fields(Views)])
def test_every_setting_of_a_view_is_compared_and_has_an_effect(field: str) -> None:
    """A setting that torch reads and C does not would be ignored on most CPUs."""
    rule = (
        f"`{field}` of data/settings.py must be used in three places: the step in native/views.py (and in its `draw` "
    )
    rule += "if it takes random numbers), the one in native/views.c, and a recipe in RECIPES, which the "
    rule += "comparison of both goes through"
    recipes = [recipe for recipe in RECIPES.values() if field in recipe]
    assert recipes, rule
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    for kernels in (True, False):
        with native.used(kernels):
            changes = [
                not torch.equal(*(ViewMaker(Views(**r), torch.zeros(3), torch.ones(3))(images, 1) for r in pair))
                for recipe in recipes
                for pair in [(recipe, {name: value for name, value in recipe.items() if name != field})]
            ]
        assert any(changes), rule


def test_a_step_that_c_does_not_know_is_made_by_torch() -> None:
    images, mean = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 1, 1)
    assert views._fits(images, {"flip": torch.zeros(1, 2)}, mean)
    assert not views._fits(images, {"flip": torch.zeros(1, 2), "solarize": torch.zeros(1, 2)}, mean)
