"""Blocks in C against their modules: value, gradients and running statistics."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup.encoders._layers import SpatialMean
from cl_semisup.native.blocks import fast_encoder
from tests.helpers.kernels import needs_kernels


def network(
    channels: int,
    *,
    widths: tuple[int, ...] = (16, 32),
    pools: tuple[bool, ...] = (True, True),
    last: nn.Module | None = None,
) -> Any:
    """Blocks whose batch norms have weights of both signs, and zero, and a layer after them."""
    generator = torch.Generator().manual_seed(3)
    layers: list[nn.Module] = []
    for wide, pool in zip(widths, pools, strict=True):
        norm = nn.BatchNorm2d(wide)
        norm.weight.data = torch.randn(wide, generator=generator)
        norm.weight.data[0] = 0
        norm.bias.data = 0.5 * torch.randn(wide, generator=generator)
        convolution = nn.Conv2d(channels, wide, 3, padding=1, bias=False)
        nn.init.kaiming_uniform_(convolution.weight, 5**0.5, generator=generator)  # as by default, the same every time
        layers += [convolution, norm]
        layers += [nn.MaxPool2d(2), nn.ReLU()] if pool else [nn.ReLU(inplace=True)]
        channels = wide
    return nn.Sequential(*layers, last or nn.Flatten())


def trained(encode: Callable[[Tensor], Tensor], of: nn.Module, images: Tensor) -> list[Tensor]:
    """Features, gradients of a weighted sum of their squares, and statistics afterwards."""
    features = encode(images)
    weights = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    (weights * (features + features.square())).sum().backward()
    gradients = [weight.grad for weight in of.parameters() if weight.grad is not None]
    assert len(gradients) == len(list(of.parameters()))
    return [features.detach(), *gradients, *of.buffers()]


def distance(found: Tensor, exact: Tensor) -> float:
    """The largest, relative to the largest number, or to 1."""
    return float((found.double() - exact.double()).abs().max() / exact.double().abs().max().clamp(min=1))


@needs_kernels
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("count", "channels", "side", "widths", "pools"),
    [
        (128, 1, 8, (16, 32, 64), (True, True, False)),  # the digits' network
        (5, 3, 32, (16, 32), (True, True)),
        (7, 3, 13, (32, 16), (True, True)),  # odd sides: a last row and column without a maximum
        (2, 1, 2, (16, 16), (True, False)),  # down to a single pixel
        (3, 2, 5, (16,), (False,)),
        (64, 3, 4, (48, 16), (False, True)),  # a width that is no power of two
        (13, 16, 6, (256,), (True,)),
    ],
)
def test_blocks_are_what_the_modules_are(
    count: int, channels: int, side: int, widths: tuple[int, ...], pools: tuple[bool, ...], layout: Any
) -> None:
    """Value, gradients and statistics, near to double precision, as the modules in single precision are."""
    images = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1)) + 0.3
    first = network(channels, widths=widths, pools=pools).to(memory_format=layout)
    ours, theirs, exact = copy.deepcopy(first), copy.deepcopy(first), copy.deepcopy(first).double()
    encode = fast_encoder(ours)
    assert encode is not ours
    found = trained(encode, ours, images.to(memory_format=layout))
    torchs, wanted = trained(theirs, theirs, images), trained(exact, exact, images.double())
    names = ["features", *dict(exact.named_parameters()), *dict(exact.named_buffers())]
    for name, a, b, c in zip(names, found, torchs, wanted, strict=True):
        assert distance(a, c) <= max(2e-5, 3 * distance(b, c)), name
        assert a.stride() == b.stride()


@needs_kernels
def test_a_mean_over_pixels_after_blocks_is_that_of_the_module() -> None:
    images = torch.randn(9, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    first = network(3, last=SpatialMean())
    ours, exact = copy.deepcopy(first), copy.deepcopy(first).double()
    encode = fast_encoder(ours)
    assert encode is not ours
    assert encode(images).shape == (9, 32)
    ours.load_state_dict(first.state_dict())
    for a, b in zip(trained(encode, ours, images), trained(exact, exact, images.double()), strict=True):
        assert distance(a, b) <= 2e-5


def rounded(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Root of the mean square of all errors, relative to that of the numbers."""
    errors = torch.cat([(a.double() - b).flatten() for a, b in zip(found, wanted, strict=True)])
    return float(errors.norm() / torch.cat([b.flatten().double() for b in wanted]).norm())


@needs_kernels
@pytest.mark.parametrize(
    ("count", "side", "widths", "pools"),
    [
        (64, 8, (16, 32, 64), (True, True, False)),
        (33, 32, (16, 32), (True, True)),  # an odd number of images, which go in pairs
        (3, 5, (32, 16), (False, True)),
    ],
)
def test_blocks_in_bfloat16_are_nearer_to_exact_ones_than_those_of_torch(
    count: int, side: int, widths: tuple[int, ...], pools: tuple[bool, ...]
) -> None:
    """Features and gradients; products are rounded in both, and in torch what lies between the layers too."""
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    first = network(3, widths=widths, pools=pools)
    ours, theirs, exact = copy.deepcopy(first), copy.deepcopy(first), copy.deepcopy(first).double()
    encode = fast_encoder(ours)
    assert encode is not ours
    with torch.autocast("cpu", torch.bfloat16):
        found, torchs = trained(encode, ours, images), trained(theirs, theirs, images)
    wanted = trained(exact, exact, images.double())
    assert 1e-5 < rounded(found[:1], wanted[:1]) < rounded(torchs[:1], wanted[:1]) < 0.05
    gradients = slice(1, 1 + len(list(ours.parameters())))
    assert 1e-4 < rounded(found[gradients], wanted[gradients]) <= 1.2 * rounded(torchs[gradients], wanted[gradients])
    assert rounded(found[gradients], wanted[gradients]) < 0.2


@needs_kernels
def test_numbers_that_bfloat16_holds_are_multiplied_exactly() -> None:
    """Small whole numbers, whose sums single precision holds too: bit for bit what single precision gives."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-3, 4, (7, 16, 6, 6), generator=generator).float()
    first = network(16, widths=(16,), pools=(False,))
    first[0].weight.data = torch.randint(-3, 4, first[0].weight.shape, generator=generator).float()
    features = []
    for bf16 in (False, True):
        ours = copy.deepcopy(first)
        encode = fast_encoder(ours)
        assert encode is not ours
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            features.append(encode(images))
    assert torch.equal(*features)


@needs_kernels
def test_of_several_equal_maxima_the_first_has_the_gradient_as_in_torch() -> None:
    images = torch.randint(0, 2, (6, 1, 8, 8), generator=torch.Generator().manual_seed(1)).float()
    ours = network(1, widths=(16,), pools=(True,))
    ours[0].weight.data.zero_()[:, :, 1, 1] = 1.0  # outputs are 0 or 1, so nearly every maximum is there twice
    theirs = copy.deepcopy(ours)
    encode = fast_encoder(ours)
    assert encode is not ours
    for a, b in zip(trained(encode, ours, images), trained(theirs, theirs, images), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_infinity_give_nan(bad: float) -> None:
    images = torch.randn(8, 3, 8, 8)
    images[0, 0, 3, 3] = bad
    ours = network(3)
    encode = fast_encoder(ours)
    assert encode is not ours
    assert bool(torch.isnan(encode(images)).any())
    assert bool(torch.isnan(ours(images)).any())


@needs_kernels
def test_blocks_and_gradients_are_the_same_to_the_bit_every_time() -> None:
    images = torch.randn(40, 3, 12, 12)
    first = network(3)
    again = copy.deepcopy(first)
    runs = [trained(fast_encoder(encoder), encoder, images) for encoder in (first, again)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@needs_kernels
def test_untracked_running_statistics_stay() -> None:
    ours = network(3)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    before = copy.deepcopy(list(ours.buffers()))
    encode = fast_encoder(ours)
    assert encode is not ours
    encode(torch.randn(8, 3, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(before, ours.buffers(), strict=True))


@needs_kernels
def test_what_blocks_cannot_do_goes_through_the_encoder() -> None:
    """Evaluation, float16 and double precision, gradients of images, a single image."""
    ours = network(3)
    encode = fast_encoder(ours)
    assert encode is not ours
    images, called = torch.randn(8, 3, 8, 8), []
    ours.register_forward_hook(lambda *_: called.append(1))
    encode(images)
    assert not called
    encode(images.clone().requires_grad_()).sum().backward()
    with torch.autocast("cpu", torch.float16):
        assert encode(images).dtype == torch.float16
    encode(images[:1])
    ours.eval()
    torch.testing.assert_close(encode(images), ours(images), rtol=0, atol=0)
    assert len(called) == 5


def left_to_torch(*layers: nn.Module) -> bool:
    encoder = nn.Sequential(*layers)
    return fast_encoder(encoder) is encoder


@needs_kernels
@pytest.mark.parametrize(
    "first",
    [
        nn.Conv2d(3, 16, 3, padding=1),  # a bias
        nn.Conv2d(3, 16, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(3, 16, 5, padding=2, bias=False),
        nn.Conv2d(4, 16, 3, padding=1, bias=False, groups=2),
        nn.Conv2d(3, 16, 3, padding=1, bias=False, padding_mode="reflect"),
        nn.Conv2d(3, 17, 3, padding=1, bias=False),  # no whole number of vectors
        nn.Conv2d(3, 512, 3, padding=1, bias=False),
        nn.Linear(3, 16),
    ],
)
def test_other_layers_are_left_to_torch(first: nn.Module) -> None:
    wide = getattr(first, "out_channels", 16)
    assert left_to_torch(first, nn.BatchNorm2d(wide), nn.ReLU())


@needs_kernels
def test_other_norms_pools_and_modules_are_left_to_torch() -> None:
    convolution = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    for norm in (
        nn.BatchNorm2d(16, affine=False),
        nn.BatchNorm2d(16, momentum=None),
        nn.BatchNorm2d(16, track_running_stats=False),
        nn.InstanceNorm2d(16),
    ):
        assert left_to_torch(convolution, norm, nn.ReLU())
    usual = nn.BatchNorm2d(16)
    assert left_to_torch(convolution, usual, nn.MaxPool2d(3), nn.ReLU())
    assert left_to_torch(convolution, usual, nn.GELU())

    class Other(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    other = Other(convolution, usual, nn.ReLU())
    assert fast_encoder(other) is other
    assert not left_to_torch(convolution, usual, nn.ReLU())
