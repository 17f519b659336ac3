"""Images of other than one or three channels: which changes a view makes, and that a run trains on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.suite import suite


def made(images: Tensor, views: Views) -> Tensor:
    channels = images.shape[1]
    return ViewMaker(views, torch.zeros(channels), torch.ones(channels))(images, 7)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_changes_of_colour_are_left_out_where_there_are_no_colours(channels: int) -> None:
    images = torch.randint(0, 256, (5, channels, 8, 8), dtype=torch.uint8)
    colours = Views(jitter=1.0, saturation=0.9, hue=0.5, grayscale=1.0)
    assert torch.allclose(made(images, colours), images.float() / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 5])
def test_brightness_and_contrast_change_each_band_by_one_factor(channels: int) -> None:
    images = torch.randint(60, 120, (3, channels, 8, 8), dtype=torch.uint8)
    x = images.float() / 255
    brighter = made(images, Views(jitter=1.0, brightness=0.3)) / x
    assert torch.allclose(brighter, brighter[:, :1, :1, :1].expand_as(x), atol=1e-4)
    means = x.mean(dim=(2, 3), keepdim=True)
    changed = made(images, Views(jitter=1.0, contrast=0.3))
    away = x - means
    factors = ((changed - means) * away).sum(dim=(1, 2, 3)) / away.square().sum(dim=(1, 2, 3))
    assert torch.allclose(changed - means, factors[:, None, None, None] * away, atol=1e-4)
    assert not torch.allclose(changed, x, atol=1e-3)


@pytest.mark.parametrize("encoder", ["{convnet: {width: 16}}", "{vit: {layers: 1, heads: 1, head_width: 8}}"])
def test_a_run_trains_on_five_bands_with_kernels_as_without(text: str, encoder: str, tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), {"train_labels": np.arange(24) % 2, "test_labels": np.arange(8) % 2}
    train, test = (random.integers(0, 256, (count, 5, 8, 8)).astype(np.uint8) for count in (24, 8))
    np.savez(tmp_path / "x.npz", train_images=train, test_images=test, **labels)
    changes = {
        "datasets: digits": "datasets: {arrays: {file: x.npz}}",
        "batch_size: 128": "batch_size: 8",
        "encoder: {mlp: {width: 16, layers: 1}}": f"encoder: {encoder}",
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    run = suite.parse(text, "s.yaml", str(tmp_path)).runs[-1]
    machines = (Machine("cpu", str(tmp_path), plain=plain) for plain in (False, True))
    fast, plain = (Executor(machine)(run)[0] for machine in machines)
    assert fast["status"] != "failed" and plain["status"] != "failed", (fast["reason"], plain["reason"])
    for name, value in fast["diagnostics"].items():
        if name == "effective_rank":
            assert value == pytest.approx(plain["diagnostics"][name], rel=0.02)
