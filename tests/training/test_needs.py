"""What needs give a loss: weights of the encoder, and patches with the features of their regions."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cl_semisup import plugins
from cl_semisup.suite.settings import Projector
from cl_semisup.training import exchange
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS


def _step(encoder: str, **settings: Any) -> Any:
    """As much of a step's context as these needs take; the projector is the identity."""
    plugin = plugins.load("encoders", encoder)(**settings)
    model = Model(lambda: plugin.build(1, 8), Projector(layers=0), 3, {}, ("digits", 0))
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(model=model, inputs=(images, images), precision=torch.no_grad)


def test_weights_are_matrices_of_linear_and_convolutional_layers_that_are_trained() -> None:
    shapes = [tuple(w.shape) for w in NEEDS["weights"].value(_step("vit", patch=4, layers=1, heads=2, head_width=4))]
    assert shapes == [(8, 16), (8, 8), (8, 8), (8, 8), (8, 8), (32, 8), (8, 32)]
    step = _step("convnet")
    convolutions = [m for m in step.model.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [w.numel() for w in NEEDS["weights"].value(step)] == [m.weight.numel() for m in convolutions]
    convolutions[0].weight.requires_grad_(False)
    assert len(NEEDS["weights"].value(step)) == len(convolutions) - 1


def test_with_several_processes_each_has_a_share_of_the_gradient_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    step = _step("linear")
    (weight,) = NEEDS["weights"].value(step)
    (whole,) = torch.autograd.grad(weight.square().sum(), step.model.encoder.parameters(), allow_unused=True)[:1]
    monkeypatch.setattr(exchange, "world_size", lambda: 4)
    (shared,) = NEEDS["weights"].value(step)
    assert torch.equal(shared, weight)
    (quarter,) = torch.autograd.grad(shared.square().sum(), step.model.encoder.parameters(), allow_unused=True)[:1]
    assert whole is not None
    torch.testing.assert_close(4 * quarter, whole)


@pytest.mark.parametrize("encoder", ["convnet", "mlp"])
def test_the_region_of_a_whole_view_has_its_features_and_the_patch_is_the_view(encoder: str) -> None:
    """A feature map of 2 x 2 and average pooling: RoIAlign takes the same mean."""
    step = _step(encoder)
    step.model.eval()
    features = step.model.encoder(step.inputs[0]).detach()
    patch, region = NEEDS["patches"].value(step)(torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(5, 4))
    torch.testing.assert_close(region, features)
    torch.testing.assert_close(patch, features, rtol=1e-3, atol=1e-4)
    half = torch.tensor([[0.0, 0.0, 0.5, 0.5]]).expand(5, 4)
    patch, region = NEEDS["patches"].value(step)(half)
    assert torch.allclose(region, features) == (encoder == "mlp")  # without a map the region is the whole view
    assert not torch.allclose(patch, features, atol=1e-2)


def test_patches_leave_running_statistics_as_they_were() -> None:
    step = _step("convnet")
    before = {name: value.clone() for name, value in step.model.named_buffers()}
    NEEDS["patches"].value(step)(torch.tensor([[0.2, 0.2, 0.9, 0.8]]).expand(5, 4))
    assert all(torch.equal(value, before[name]) for name, value in step.model.named_buffers())
