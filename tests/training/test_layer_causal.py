"""Layer-causal descent on two linear layers, by hand, with losses that remember, and what it is refused for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses, plugins
from cl_semisup.errors import InputError
from cl_semisup.losses import Requirements
from cl_semisup.optimizers import is_layer_causal
from cl_semisup.training.layer_causal import LayerCausal
from tests.training.test_training import make, train

RATE = 0.01


class HalfSquare(nn.Module):
    """L = mean_i |z1_i|^2 / 2; it remembers its rows."""

    requirements = Requirements()

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        return z1.square().sum(dim=1).mean() / 2 + 0 * z2.sum()


def _two_layers(loss: nn.Module) -> tuple[Any, list[Tensor], list[Tensor]]:
    """One step of two linear layers W2 W1 x and no projector: the setup, the weights before, and inputs of view 1."""
    setup, seen = make(loss), list[Tensor]()
    first, second = nn.Linear(64, 4, bias=False), nn.Linear(4, 4, bias=False)
    flat = nn.Flatten()
    flat.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    encoder = nn.Sequential(flat, first, second)
    encoder.dim = 4  # type: ignore[assignment]
    setup.model.encoder, setup.model.projector, setup.model.feature_dim = encoder, nn.Identity(), 4
    plugin = plugins.load("optimizers", "layer_causal")(momentum=0.0, weight_decay=0.0)
    optimizer = plugin.build([first.weight, second.weight], [])
    before = [first.weight.detach().clone(), second.weight.detach().clone()]
    setup = replace(setup, optimizer=optimizer, layer_causal=is_layer_causal(plugin))
    return setup, before, seen


def test_two_linear_layers_move_as_computed_by_hand() -> None:
    setup, (w1, w2), seen = _two_layers(HalfSquare())
    train(setup, epochs=1, batch_size=64, base_learning_rate=RATE)
    x = seen[0][:64]
    h = x @ w1.T
    z = h @ w2.T
    first, second = setup.model.encoder[1].weight.detach(), setup.model.encoder[2].weight.detach()
    torch.testing.assert_close(first, w1 - RATE * h.T @ x / 64)  # of |h|^2 / 2, as if W2 were not there
    torch.testing.assert_close(second, w2 - RATE * z.T @ h / 64)
    through = w1 - RATE * (z @ w2).T @ x / 64  # ordinary descent
    assert not torch.allclose(first, through, atol=1e-5)
    assert setup.history.loss[-1] == pytest.approx(float(z.square().sum(dim=1).mean() / 2), rel=1e-5)


def test_the_projector_moves_by_the_last_layer_alone_and_evaluation_keeps_its_gradients() -> None:
    setup = make(losses.build("nt_xent"))
    causal = LayerCausal(setup.model, 1)
    hidden = torch.randn(8, 16, requires_grad=True)
    before = {name: value.clone() for name, value in setup.model.projector.named_buffers()}
    causal.read(hidden).square().sum().backward()
    assert hidden.grad is not None
    assert all(p.grad is None for p in setup.model.projector.parameters())
    assert all(torch.equal(value, before[name]) for name, value in setup.model.projector.named_buffers())
    with causal.watching():
        pass
    assert not any(module._forward_pre_hooks for module in setup.model.encoder.modules())


class MeanOfBefore(nn.Module):
    """L = mean_i |z1_i - m|^2 / 2, where m is the mean projection of the step before."""

    requirements = Requirements()
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        loss = (z1 - self.mean).square().sum(dim=1).mean() / 2
        self.mean = z1.detach().mean(dim=0)
        return loss


def test_a_loss_remembers_the_last_layer_alone_and_lower_layers_read_that() -> None:
    setup, (w1, w2), seen = _two_layers(MeanOfBefore())
    train(setup, epochs=2, batch_size=64, base_learning_rate=RATE)
    mean = torch.zeros(4)
    for x in (each[:64] for each in seen):
        h, z = x @ w1.T, x @ w1.T @ w2.T
        w1, w2 = w1 - RATE * (h - mean).T @ x / 64, w2 - RATE * (z - mean).T @ h / 64
        mean = z.mean(dim=0)
    torch.testing.assert_close(setup.model.encoder[1].weight.detach(), w1)
    torch.testing.assert_close(setup.model.encoder[2].weight.detach(), w2)
    torch.testing.assert_close(setup.loss.mean, mean)  # type: ignore[attr-defined]


def test_other_encoders_and_parts_of_batches_are_refused() -> None:
    setup = make(losses.build("nt_xent"))
    with pytest.raises(InputError, match=r"whole batches in one process. Got parts."):
        LayerCausal(setup.model, 2)
    setup.model.encoder.dim = 17  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"a row of linear layers of one width. Got widths \[16\]."):
        LayerCausal(setup.model, 1)
    setup.model.encoder = plugins.load("encoders", "convnet")().build(1, 8)
    with pytest.raises(
        InputError, match=r"need an encoder that is a row of linear layers of one width. Got no such row \(Sequential"
    ):
        LayerCausal(setup.model, 1)
