"""The kernels in C against the modules and the views of torch, and what becomes of a machine that has none."""

import copy
import ctypes
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import cli, contrast, native
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.encoders._layers import SpatialMean
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.trainer import Trainer
from cl_semisup.execution.training_groups import single_run
from cl_semisup.gate.float64 import float64
from cl_semisup.native import blocks, head
from cl_semisup.suite.run import Run
from cl_semisup.suite.settings import Projector
from cl_semisup.suite.suite import Suite
from cl_semisup.training import exchange
from cl_semisup.training.model import build_projector

here = pytest.mark.skipif(bool(native.missing()), reason=f"no kernels: {native.missing()}")
FAST, TORCH = Machine("cpu", "data"), Machine("cpu", "data", native=False)


@pytest.fixture(autouse=True)
def _kernels_in_use() -> Iterator[None]:
    """What is found in a changed environment is forgotten after the test."""
    with native.used():
        yield
    native._found.cache_clear()


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


@here
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
    encode = blocks.fused(ours)
    assert encode is not None
    found = trained(encode, ours, images.to(memory_format=layout))
    torchs, wanted = trained(theirs, theirs, images), trained(exact, exact, images.double())
    names = ["features", *dict(exact.named_parameters()), *dict(exact.named_buffers())]
    for name, a, b, c in zip(names, found, torchs, wanted, strict=True):
        assert distance(a, c) <= max(2e-5, 3 * distance(b, c)), name
        assert a.stride() == b.stride()


@here
def test_a_mean_over_pixels_after_blocks_is_that_of_the_module() -> None:
    images = torch.randn(9, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    first = network(3, last=SpatialMean())
    ours, exact = copy.deepcopy(first), copy.deepcopy(first).double()
    encode = blocks.fused(ours)
    assert encode is not None
    assert encode(images).shape == (9, 32)
    ours.load_state_dict(first.state_dict())
    for a, b in zip(trained(encode, ours, images), trained(exact, exact, images.double()), strict=True):
        assert distance(a, b) <= 2e-5


def rounded(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Root of the mean square of all errors, relative to that of the numbers."""
    errors = torch.cat([(a.double() - b).flatten() for a, b in zip(found, wanted, strict=True)])
    return float(errors.norm() / torch.cat([b.flatten().double() for b in wanted]).norm())


@here
@pytest.mark.parametrize(
    ("count", "side", "widths", "pools"),
    [
        (64, 8, (16, 32, 64), (True, True, False)),
        (33, 32, (16, 32), (True, True)),  # an odd number of pictures, which go in pairs
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
    encode = blocks.fused(ours)
    assert encode is not None
    with torch.autocast("cpu", torch.bfloat16):
        found, torchs = trained(encode, ours, images), trained(theirs, theirs, images)
    wanted = trained(exact, exact, images.double())
    assert 1e-5 < rounded(found[:1], wanted[:1]) < rounded(torchs[:1], wanted[:1]) < 0.05
    gradients = slice(1, 1 + len(list(ours.parameters())))
    assert 1e-4 < rounded(found[gradients], wanted[gradients]) <= 1.2 * rounded(torchs[gradients], wanted[gradients])
    assert rounded(found[gradients], wanted[gradients]) < 0.2


@here
def test_numbers_that_bfloat16_holds_are_multiplied_exactly() -> None:
    """Small whole numbers, whose sums single precision holds too: bit for bit what single precision gives."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-3, 4, (7, 16, 6, 6), generator=generator).float()
    first = network(16, widths=(16,), pools=(False,))
    first[0].weight.data = torch.randint(-3, 4, first[0].weight.shape, generator=generator).float()
    features = []
    for half in (False, True):
        encode = blocks.fused(copy.deepcopy(first))
        assert encode is not None
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            features.append(encode(images))
    assert torch.equal(*features)


@here
@pytest.mark.parametrize("layers", [2, 3])
def test_a_projector_is_what_its_modules_are(layers: int) -> None:
    features = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    first = build_projector(64, Projector(layers=layers, hidden=48, dim=24))
    ours, exact = copy.deepcopy(first), copy.deepcopy(first).double()
    project = head.fused(ours)
    assert project is not None
    mine, other = features.clone().requires_grad_(), features.double().requires_grad_()
    found, wanted = trained(project, ours, mine), trained(exact, exact, other)
    for a, b in zip([*found, mine.grad], [*wanted, other.grad], strict=True):
        assert a is not None
        assert b is not None
        assert distance(a, b) <= 2e-5


@here
def test_what_a_head_cannot_do_goes_through_the_projector() -> None:
    ours = build_projector(32, Projector(dim=16))
    project = head.fused(ours)
    assert project is not None
    features, called = torch.randn(8, 32), []
    ours.register_forward_hook(lambda *_: called.append(1))
    project(features)
    assert not called
    with torch.autocast("cpu", torch.bfloat16):
        assert project(features).dtype == torch.bfloat16
    ours.eval()
    torch.testing.assert_close(project(features), ours(features), rtol=0, atol=0)
    assert len(called) == 3
    assert head.fused(nn.Sequential(nn.Linear(32, 16))) is None
    assert head.fused(nn.Identity()) is None
    assert head.fused(build_projector(32, Projector(hidden=20))) is None  # no whole number of vectors
    assert (
        head.fused(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))) is None
    )  # a bias


@here
@pytest.mark.parametrize("shape", [(5, 7), (40, 128), (3, 1)])
def test_unit_rows_are_those_of_torch(shape: tuple[int, int]) -> None:
    """Value and gradient, also of a row of zeros and of one that is shorter than what it is divided by."""
    z = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    z[0], z[1] = 0.0, 1e-15
    weights = torch.linspace(-1, 1, z.numel()).view(shape)
    found = []
    for used, numbers in ((True, z), (False, z), (False, z.double())):
        leaf = numbers.clone().requires_grad_()
        with native.used(used):
            rows = contrast.unit(leaf)
        (rows * weights).sum().backward()
        assert leaf.grad is not None
        found.append((rows.detach().double(), leaf.grad.double()))
    for ours, torchs, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6)


@here
def test_wider_vectors_and_narrower_ones_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 numbers, as on processors with AVX-512, on any processor: the compiler makes two of one where it must."""
    compiler = os.environ.get("CC", "cc")
    for lanes, words in ((16, "-U__AVX512F__ -D__AVX512F__=1"), (8, "-U__AVX512F__")):
        monkeypatch.setenv("CC", f"{compiler} {words}")
        native._found.cache_clear()
        found = native.library()
        assert found is not None, native.missing()
        assert found.lanes() == lanes
        test_blocks_are_what_the_modules_are(5, 3, 13, (32, 16), (True, False), torch.channels_last)
        test_blocks_in_bfloat16_are_nearer_to_exact_ones_than_those_of_torch(33, 8, (16, 32), (True, True))
        test_numbers_that_bfloat16_holds_are_multiplied_exactly()
        test_sums_over_pairs_are_those_of_torch(50, False)


@here
def test_of_several_equal_maxima_the_first_has_the_slope_as_in_torch() -> None:
    images = torch.randint(0, 2, (6, 1, 8, 8), generator=torch.Generator().manual_seed(1)).float()
    ours = network(1, widths=(16,), pools=(True,))
    ours[0].weight.data.zero_()[:, :, 1, 1] = 1.0  # outputs are 0 or 1, so nearly every maximum is there twice
    theirs = copy.deepcopy(ours)
    encode = blocks.fused(ours)
    assert encode is not None
    for a, b in zip(trained(encode, ours, images), trained(theirs, theirs, images), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@here
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_stays_none(bad: float) -> None:
    images = torch.randn(8, 3, 8, 8)
    images[0, 0, 3, 3] = bad
    ours = network(3)
    encode = blocks.fused(ours)
    assert encode is not None
    assert bool(torch.isnan(encode(images)).any())
    assert bool(torch.isnan(ours(images)).any())


@here
def test_blocks_and_gradients_are_the_same_to_the_bit_every_time() -> None:
    images = torch.randn(40, 3, 12, 12)
    first = network(3)
    again = copy.deepcopy(first)
    runs = [trained(blocks.fused(of) or of, of, images) for of in (first, again)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@here
def test_statistics_that_are_not_kept_stay() -> None:
    ours = network(3)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    before = copy.deepcopy(list(ours.buffers()))
    encode = blocks.fused(ours)
    assert encode is not None
    encode(torch.randn(8, 3, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(before, ours.buffers(), strict=True))


@here
def test_what_blocks_cannot_do_goes_through_the_encoder() -> None:
    """Evaluation, float16 and double precision, gradients of images, a single image."""
    ours = network(3)
    encode = blocks.fused(ours)
    assert encode is not None
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


@here
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
    assert blocks.fused(nn.Sequential(first, nn.BatchNorm2d(wide), nn.ReLU())) is None


@here
def test_other_norms_pools_and_modules_are_left_to_torch() -> None:
    convolution = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    for norm in (
        nn.BatchNorm2d(16, affine=False),
        nn.BatchNorm2d(16, momentum=None),
        nn.BatchNorm2d(16, track_running_stats=False),
        nn.InstanceNorm2d(16),
    ):
        assert blocks.fused(nn.Sequential(convolution, norm, nn.ReLU())) is None
    usual = nn.BatchNorm2d(16)
    assert blocks.fused(nn.Sequential(convolution, usual, nn.MaxPool2d(3), nn.ReLU())) is None
    assert blocks.fused(nn.Sequential(convolution, usual, nn.GELU())) is None

    class Other(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    assert blocks.fused(Other(convolution, usual, nn.ReLU())) is None
    assert blocks.fused(nn.Sequential(convolution, usual, nn.ReLU())) is not None


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


@here
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (3, 13), (1, 48)])
def test_views_are_those_of_torch(recipe: str, channels: int, side: int) -> None:
    """From the same seed, with the same draws: what differs is rounding, most where an affine map looks for pixels."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(40, channels, 4, 4, generator=generator)
    images = (nn.functional.interpolate(coarse, size=side, mode="bilinear") * 255).round().to(torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:channels], torch.tensor([0.5, 0.25, 0.2])[:channels]
    make = ViewMaker(Views(**RECIPES[recipe]), mean, std)
    assert make._suits(images)
    for seed in range(5):
        found = make(images, seed)
        with native.used(False):
            wanted = make(images, seed)
        assert found.stride() == wanted.stride()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    if recipe in ("nothing", "flip"):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@here
def test_views_of_pictures_that_lie_apart_in_memory_are_the_same() -> None:
    images = torch.randint(0, 256, (40, 12, 12, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    make = ViewMaker(Views(crop_area=0.3, hue=0.1), torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(make(images.permute(0, 3, 1, 2), 1), make(images.permute(0, 3, 1, 2).contiguous(), 1))


def test_views_that_c_does_not_know_are_made_by_torch() -> None:
    """Two channels, oblong pictures, numbers that are no bytes."""
    settings = Views(crop_area=0.5, brightness=0.5)
    for images in (
        torch.randint(0, 256, (4, 2, 8, 8)).to(torch.uint8),
        torch.randint(0, 256, (4, 3, 8, 10)).to(torch.uint8),
        torch.rand(4, 3, 8, 8) * 255,
    ):
        channels = images.shape[1]
        make = ViewMaker(settings, torch.zeros(channels), torch.ones(channels))
        found = make(images, 1)
        with native.used(False):
            torch.testing.assert_close(found, make(images, 1), rtol=0, atol=0)


@here
def test_in_double_precision_nothing_goes_through_kernels() -> None:
    """As in the gate, whose exact tiers train the package's own code so."""
    make = ViewMaker(Views(rotation=20), torch.zeros(1), torch.ones(1))
    images = torch.randint(0, 256, (4, 1, 8, 8)).to(torch.uint8)
    assert make(images, 1).dtype == torch.float32
    with float64():
        made = ViewMaker(Views(rotation=20), torch.zeros(1), torch.ones(1))(images, 1)
        assert made.dtype == torch.float64
        z = torch.randn(8, 3, requires_grad=True)
        assert contrast.against_others(z, 0.5, torch.arange(8))[0].dtype == torch.float64
        encode = blocks.fused(network(1))
        assert encode is not None
        assert encode(made).dtype == torch.float64


@pytest.fixture
def run(parse: Callable[[str], Suite], text: str) -> Run:
    return parse(text.replace("{mlp: {width: 16, layers: 1}}", "convnet").replace("epochs: 1", "epochs: 4")).runs[-1]


@here
def test_a_training_with_kernels_is_the_one_without(run: Run) -> None:
    made, curves = Executor(FAST)(run)
    other, others = Executor(TORCH)(run)
    assert made["status"] == other["status"] == "ok"
    assert made["resolved"]["native"] is True
    assert "native" not in other["resolved"]
    losses = [found["history"]["loss"] for found in (curves, others)]
    assert losses[0] != losses[1]  # or the kernels were not used
    assert losses[0][:5] == pytest.approx(losses[1][:5], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    for score in ("knn_top1", "linear_top1"):
        assert abs(made["scores"][score] - other["scores"][score]) <= 0.03


@here
def test_kernels_are_for_single_precision_and_one_thread_on_a_cpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FAST.wants_kernels()
    other: list[dict[str, Any]] = [{"native": False}, {"plain": True}, {"threads": 2}, {"device": "cuda"}]
    assert not any(replace(FAST, **how).wants_kernels() for how in other)
    trained = Trainer(single_run(run), FAST, None)  # type: ignore[arg-type]
    assert trained.faster(network(1)) is not None
    assert trained.faster_head(build_projector(32, Projector())) is not None
    monkeypatch.setattr(exchange, "world_size", lambda: 2)
    assert trained.faster_head(build_projector(32, Projector())) is None
    assert trained.faster(network(1)) is None  # batch norm joins the shards of all processes


def test_kernels_are_used_only_while_somebody_says_so() -> None:
    with native.used(False):
        assert native.library() is None
        with native.used():
            assert (native.library() is None) == bool(native.missing())
        assert native.library() is None


@here
@pytest.mark.parametrize("rows", [2, 6, 16, 128, 250])
@pytest.mark.parametrize("alike", [False, True])
def test_sums_over_pairs_are_those_of_torch(rows: int, alike: bool) -> None:
    """Values and gradients against double precision; with numbers in common, and rows that nothing is left for."""
    generator = torch.Generator().manual_seed(rows)
    z = nn.functional.normalize(torch.randn(rows, 24, generator=generator, dtype=torch.float64), dim=1)
    numbers = torch.randint(0, 3, (rows,), generator=generator) if alike else torch.arange(rows)
    slopes = torch.randn(2, rows, generator=generator, dtype=torch.float64)
    found = []
    for kind in (torch.float32, torch.float64):
        given = z.to(kind).requires_grad_()
        total, partner = contrast.against_others(given, 0.07, numbers)
        some = torch.isfinite(total)
        ((total * slopes[0].to(kind))[some].sum() + (partner * slopes[1].to(kind)).sum()).backward()
        found.append((total.detach(), partner.detach(), given.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-4)


@here
def test_a_row_without_others_has_minus_infinity_and_no_gradient() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    total, partner = contrast.against_others(z, 0.5, torch.zeros(4, dtype=torch.long))
    assert bool((total == -torch.inf).all())
    partner.sum().backward()
    expected = torch.cat([z[2:], z[:2]]).detach() * 2 / 0.5
    torch.testing.assert_close(z.grad, expected)


@here
def test_sums_of_what_is_no_number_are_none() -> None:
    z = torch.randn(20, 3)
    z[4, 1] = torch.nan
    total, partner = contrast.against_others(z, 0.5, torch.arange(20))
    assert bool(torch.isnan(total).all())
    assert bool(torch.isnan(partner[[4, 14]]).all())


# a machine without -----------------------------------------------------------------------------------------------------


def told(**environment: str) -> str:
    """What a process says of its kernels."""
    program = "from cl_semisup import native; print(native.missing() or native._compiled())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@here
def test_kernels_are_compiled_once_for_a_compiler_and_a_processor(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    path = Path(told(**cache))
    made = path.stat().st_mtime_ns
    assert path.parent == tmp_path / "cl_semisup"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert told(**cache) == str(path)
    assert path.stat().st_mtime_ns == made
    assert told(**cache, CC="cc -g") != str(path)
    assert len(list(path.parent.iterdir())) == 2  # nothing half done


def test_a_machine_without_a_compiler_says_so_and_what_to_do(tmp_path: Path) -> None:
    assert told(CC="no-such-compiler") == "there is no C compiler (cc, or what CC names). Install gcc or clang."
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert "the C compiler ended with 1" in told(CC="false", **cache)
    (tmp_path / "broken").write_text("#!/bin/sh\n[ \"$1\" = --version ] || { echo 'no such flag' >&2; exit 4; }\n")
    (tmp_path / "broken").chmod(0o755)
    assert told(CC=str(tmp_path / "broken"), **cache) == (
        "the C compiler ended with 4: no such flag. Set CC to another."
    )
    assert not list((tmp_path / "cl_semisup").iterdir())


@here
def test_nothing_is_executed_from_a_folder_that_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "cl_semisup").mkdir()
    (tmp_path / "cl_semisup").chmod(0o777)
    assert "must be writable by its owner, who must be you, alone" in told(XDG_CACHE_HOME=str(tmp_path))


@here
def test_a_place_that_cannot_be_made_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no folder can be made for them" in told(XDG_CACHE_HOME=str(tmp_path / "file"))
    path = Path(told(XDG_CACHE_HOME=str(tmp_path)))
    path.write_bytes(b"no library")
    assert "cannot be loaded" in told(XDG_CACHE_HOME=str(tmp_path))


def test_without_kernels_a_suite_says_so_and_runs(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    native._found.cache_clear()
    (tmp_path / "s.yaml").write_text(text.replace(", clop", ""))
    words = [str(tmp_path / "s.yaml"), "--results", str(tmp_path / "r"), "--device", "cpu", "--workers", "1"]
    assert cli.main(words) == 0
    assert "without compiled kernels: there is no C compiler" in capsys.readouterr().out


def test_an_installed_package_has_all_that_is_compiled() -> None:
    """Headers too: a wheel without them would find no kernels on any machine."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    shipped = project["tool"]["setuptools"]["package-data"]["cl_semisup"]
    assert len(native.SOURCES) == 4
    for source in native.SOURCES:
        assert any(source.match(pattern) for pattern in shipped), source


@here
def test_what_python_and_c_think_of_a_block_and_a_recipe_is_the_same() -> None:
    """A field more or less on one side would move all that follow."""
    found = native.library()
    assert found is not None
    assert ctypes.sizeof(native.Shape) == 7 * 4
    assert ctypes.sizeof(native.BatchNorm) == 6 * 8 + 2 * 4
    assert ctypes.sizeof(native.Recipe) == (4 + 7 + 4 + 4 + 4) * 4
    recipe = native.Recipe(n=1, channels=3, h=5, w=7)
    assert found.view_work(recipe) == 8 + 3 * 8 * 10
