"""Batched views are distributed as torchvision's image-by-image transforms, and exact where nothing is changed."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, weak
from cl_semisup.native import views


def maker(channels: int = 3, **settings: Any) -> ViewMaker:
    return ViewMaker(Views(**settings), torch.zeros(channels), torch.ones(channels))


def images(count: int = 64, channels: int = 3, side: int = 16) -> Tensor:
    """Smooth colourful images: noise on a coarse grid, enlarged."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return (fine * 255).round().to(torch.uint8)


def uniform(rows: int, count: int, seed: int) -> Tensor:
    """The random numbers of a step."""
    return torch.rand(rows, count, generator=torch.Generator().manual_seed(seed))


def test_without_any_change_a_view_is_the_image() -> None:
    x = images()
    torch.testing.assert_close(maker()(x, 0), x.float() / 255, rtol=0, atol=0)


def test_a_view_is_a_function_of_its_seed() -> None:
    x, make = images(), maker(crop_area=0.2, flip=0.5, rotation=20, brightness=0.4, hue=0.1, grayscale=0.2, blur=0.5)
    torch.testing.assert_close(make(x, 3), make(x, 3), rtol=0, atol=0)
    assert not torch.equal(make(x, 3), make(x, 4))


def test_views_are_normalised_by_the_data_set() -> None:
    x = images()
    normalised = ViewMaker(Views(), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 0.2]))
    expected = functional.normalize(x.float() / 255, [0.1, 0.2, 0.3], [0.5, 0.25, 0.2])
    torch.testing.assert_close(normalised(x, 0), expected)
    torch.testing.assert_close(normalised.normalize(x), expected)


@pytest.mark.parametrize("area", [0.08, 0.5])
def test_crops_are_torchvisions_crops(area: float) -> None:
    """Ramps along both axes tell each crop's edges; their laws are compared by Kolmogorov-Smirnov tests."""
    side, count = 32, 2000
    across = torch.arange(side).float().expand(side, side) / 255
    both = torch.stack([across, across.T, across])[None]  # (1, 3, side, side)
    ours = views.random_resized_crop(both.expand(count, -1, -1, -1), area, 4 / 3, uniform(40, count, 2))
    torch.manual_seed(3)
    crop = v2.RandomResizedCrop(side, scale=(area, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
    theirs = torch.stack([crop(both[0]) for _ in range(count)])
    for channel, where in ((0, (16, 0)), (0, (16, 31)), (1, (0, 16)), (1, (31, 16))):
        a, b = (255 * x[:, channel, where[0], where[1]].numpy() for x in (ours, theirs))
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_a_crop_resizes_as_torchvision_does() -> None:
    x = images(8).float() / 255
    start, length = torch.tensor([2.0] * 8), torch.tensor([9.0] * 8)
    rows, columns = views._resize(start, length, 16), views._resize(start + 1, length + 2, 16)
    ours = rows[:, None] @ x @ columns[:, None].transpose(-1, -2)
    theirs = functional.resized_crop(x, 2, 3, 9, 11, [16, 16], antialias=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_flips_come_with_their_probability_and_are_exact() -> None:
    x = images(2000)
    out = maker(flip=0.3)(x, 5)
    flipped = torch.tensor([torch.equal(a, b) for a, b in zip(out, x.flip(-1).float() / 255, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(out, x.float() / 255, strict=True)])
    assert bool((flipped ^ kept).all())
    assert stats.binomtest(int(flipped.sum()), 2000, 0.3).pvalue > 1e-3


@pytest.mark.parametrize(
    ("settings", "angle", "shift", "scale"),
    [({"rotation": 30.0}, 30, 0, 0), ({"shift": 0.2}, 0, 0.2, 0), ({"zoom": 0.3}, 0, 0, 0.3)],
)
def test_affine_changes_are_torchvisions_with_the_same_numbers(
    settings: dict[str, float], angle: float, shift: float, scale: float
) -> None:
    x = images(6).float() / 255
    numbers = uniform(4, 6, 7)
    ours = views.random_affine(x, angle, shift, scale, numbers)
    draw = 2 * numbers - 1
    for i in range(6):
        theirs = functional.affine(
            x[i],
            angle=float(draw[0, i] * angle),
            translate=[float(draw[2, i] * shift * 16), float(draw[3, i] * shift * 16)],
            scale=1 + float(scale * draw[1, i]),
            shear=[0.0, 0.0],
            interpolation=functional.InterpolationMode.BILINEAR,
        )
        difference = (ours[i] - theirs)[:, 2:-2, 2:-2].abs()  # at the border torchvision blends its fill differently
        assert difference.max() < 2e-2, (i, difference.max())


def test_shifts_are_uniform_to_both_sides() -> None:
    x = torch.zeros(4000, 1, 9, 9)
    x[:, :, 4, 4] = 1.0
    out = views.random_affine(x, 0, 0.25, 0, uniform(4, 4000, 1))
    columns = (out.sum(dim=(1, 2)) * torch.arange(9)).sum(dim=1) / out.sum(dim=(1, 2, 3)) - 4
    assert stats.kstest(columns.numpy() / 2.25, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_colour_changes_equal_torchvisions_with_the_same_factor() -> None:
    x = images(5).float() / 255
    jittered, strength, numbers = torch.ones(5, 1, 1, 1, dtype=torch.bool), 0.6, uniform(1, 5, 0)
    pairs = [
        (views._brightness, functional.adjust_brightness),
        (views._contrast, functional.adjust_contrast),
        (views._saturation, functional.adjust_saturation),
    ]
    for ours, theirs in pairs:
        factors = 1 - strength + 2 * strength * numbers[0]
        out = ours(x, strength, jittered, numbers)
        for i in range(5):
            torch.testing.assert_close(out[i], theirs(x[i], float(factors[i])), rtol=1e-4, atol=1e-5)
    for turn in (-0.4, 0.1, 0.5):
        turned = views.turn_hue(x, torch.full((5, 1, 1, 1), turn))
        torch.testing.assert_close(turned, functional.adjust_hue(x, turn), rtol=1e-3, atol=1e-4)


def test_a_hue_turned_all_the_way_round_is_the_same_and_grey_has_none() -> None:
    x = images(5).float() / 255
    torch.testing.assert_close(views.turn_hue(x, torch.ones(5, 1, 1, 1)), x, rtol=1e-4, atol=1e-5)
    grey = views.luma(x).expand(-1, 3, -1, -1)
    torch.testing.assert_close(views.turn_hue(grey, torch.full((5, 1, 1, 1), 0.3)), grey, rtol=1e-4, atol=1e-5)


def test_jittered_pixels_are_distributed_as_torchvisions() -> None:
    """Mean and spread of each image's brightness over many draws, whole pipeline with its random order."""
    x, count = images(1), 3000
    make = maker(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2)
    ours = torch.cat([make(x.expand(50, -1, -1, -1), seed) for seed in range(count // 50)])
    torch.manual_seed(5)
    recipe = v2.Compose([v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2)])
    theirs = torch.stack([recipe(x[0].float() / 255) for _ in range(count)])
    for channel in range(3):
        a, b = (out[:, channel, 8, 8].numpy() for out in (ours, theirs))
        assert abs(a.mean() - b.mean()) < 4 * math.sqrt(a.var() / count + b.var() / count) * 2  # 50 share an order
        assert a.std() == pytest.approx(b.std(), rel=0.1)


def test_blur_equals_torchvisions_kernel() -> None:
    x = images(4, side=32).float() / 255
    numbers = uniform(2, 4, 3)
    sigma = 0.1 + 1.9 * numbers[0]
    out = views.random_blur(x, 1.0, numbers)
    for i in range(4):
        theirs = functional.gaussian_blur(x[i], kernel_size=[3, 3], sigma=[float(sigma[i])] * 2)
        torch.testing.assert_close(out[i], theirs, rtol=1e-4, atol=1e-5)


def test_grey_images_keep_their_only_channel() -> None:
    x = images(16, channels=1)
    out = maker(1, brightness=0.4, saturation=0.9, hue=0.5, grayscale=1.0)(x, 0)
    assert out.shape == (16, 1, 16, 16)
    assert np.isfinite(out.numpy()).all()


def test_weak_views_mirror_and_shift_only() -> None:
    recipe = weak(Views(crop_area=0.2, flip=0.5, rotation=10, brightness=0.4, grayscale=0.2))
    assert recipe == Views(flip=0.5, shift=0.125, jitter=0.0)


def test_negatives_and_noise_come_as_asked() -> None:
    x = images(2000, channels=1, side=4)
    negated = maker(1, negate=0.3)(x, 1)
    changed = ~(negated == x.float() / 255).flatten(1).all(dim=1)
    assert stats.binomtest(int(changed.sum()), 2000, 0.3).pvalue > 1e-3
    torch.testing.assert_close(negated[changed], 1 - x[changed].float() / 255)
    added = (maker(1, noise=0.1)(x, 1) - x.float() / 255).flatten()
    assert stats.kstest(added[:5000].numpy() / 0.1, "norm").pvalue > 1e-3


def test_turns_and_zooms_are_uniform_to_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's RandomAffine draws them: the angle in +-degrees, the scale in [1 - zoom, 1 + zoom]."""
    drawn: list[Tensor] = []
    grid = torch.nn.functional.affine_grid
    monkeypatch.setattr(
        torch.nn.functional,
        "affine_grid",
        lambda theta, *rest, **kinds: (drawn.append(theta), grid(theta, *rest, **kinds))[1],
    )
    views.random_affine(torch.zeros(4000, 1, 4, 4), 30.0, 0.0, 0.2, uniform(4, 4000, 0))
    cos, sin = drawn[0][:, 0, 0], drawn[0][:, 0, 1]
    degrees, scale = torch.atan2(-sin, cos).rad2deg(), 1 / torch.hypot(cos, sin)
    for found, low, high in ((degrees, -30.0, 30.0), (scale, 0.8, 1.2)):
        assert low - 1e-3 <= float(found.min())
        assert float(found.max()) <= high + 1e-3
        assert stats.kstest(found.numpy(), "uniform", (low, high - low)).pvalue > 0.01
