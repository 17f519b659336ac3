"""What is frozen does not move by a bit: neither weights nor running statistics, in a network or in its EMA copy."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses, plugins
from cl_semisup.encoders._freeze import freeze
from cl_semisup.errors import InputError
from cl_semisup.losses import requirements_of
from cl_semisup.suite.settings import Projector
from cl_semisup.training import ema, loop
from cl_semisup.training.loop import History
from cl_semisup.training.model import Model, build_projector
from cl_semisup.training.needs import heads
from tests.training.test_training import CLASSES, SEED_KEY, SIDE, TrainingSetup, make, train


def frozen_setup(
    what: Any, loss: Any, optimizer: str = "sgd", projector: Projector = Projector(dim=8)
) -> TrainingSetup:
    setup = make(loss)

    def build() -> nn.Module:
        net: nn.Module = plugins.load("encoders", "convnet")(width=4, blocks=2).build(1, SIDE)
        freeze(net, what)
        return net

    model = Model(build, projector, CLASSES, heads(requirements_of(loss).needs), SEED_KEY)
    settings = {} if optimizer != "adamw" else {"weight_decay": 0.5}
    built = plugins.load("optimizers", optimizer)(**settings).build(*loop.split_parameters(model, loss))
    return TrainingSetup(model, loss, setup.views, built, setup.images, setup.visible_labels, SEED_KEY, History())


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize("loss", ["nt_xent", "byol", "cross_entropy"])
def test_a_frozen_encoder_does_not_move_by_a_bit_and_the_rest_does(loss: str, optimizer: str) -> None:
    setup = frozen_setup("all", losses.build(loss, dim=8, classes=CLASSES, images=64), optimizer)
    encoder, model = state(setup.model.encoder), state(setup.model)
    train(setup, epochs=1)
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in setup.model.encoder.state_dict().items())
    assert any(not torch.equal(tensor, model[name]) for name, tensor in setup.model.state_dict().items())
    assert not any(
        p in set(setup.model.encoder.parameters()) for g in setup.optimizer.param_groups for p in g["params"]
    )


def test_frozen_stages_stay_and_later_ones_move() -> None:
    setup = frozen_setup({"stages": 1}, losses.build("nt_xent"))
    before = state(setup.model.encoder)
    train(setup, epochs=1)
    moved = {name for name, tensor in setup.model.encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"4.weight"} | {n for n in before if n.startswith("5.")}


def test_a_frozen_encoder_gives_evaluation_features_in_training_and_a_gradient_to_images() -> None:
    model = frozen_setup("all", losses.build("nt_xent")).model.train()
    assert not any(module.training for module in model.encoder.modules()) and model.projector.training
    copy = ema.make(model)
    assert not copy.encoder.training and copy.projector.training
    ema.update(copy, model, 0.3)
    pairs = zip(copy.encoder.parameters(), model.encoder.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    x = torch.randn(4, 1, SIDE, SIDE, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.encoder(x).sum(), x)
    assert bool(gradient.abs().sum() > 0)
    assert not model.encoder(x.detach()).requires_grad


def test_chunks_of_a_frozen_encoder_give_the_same_training() -> None:
    weights = []
    for chunks in (1, 2):
        setup = frozen_setup("all", losses.build("nt_xent"))
        train(setup, epochs=1, chunks=chunks)
        weights.append(torch.cat([p.detach().flatten() for p in setup.model.projector.parameters()]))
    assert torch.allclose(*weights, atol=1e-6)


def test_a_loss_that_reaches_nothing_that_trains_is_told() -> None:
    setup = frozen_setup("all", losses.build("nt_xent"), projector=Projector(layers=0))
    with pytest.raises(InputError, match="freeze: a loss must reach weights that are trained"):
        train(setup)


def test_projectors_have_the_norms_that_are_asked_for() -> None:
    def kinds(**settings: Any) -> list[str]:
        return [type(layer).__name__ for layer in build_projector(16, Projector(dim=8, **settings))]

    assert kinds() == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(norm="layer") == ["Linear", "LayerNorm", "ReLU", "Linear"]
    assert kinds(norm="none", layers=3) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(last_norm=True) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    x = torch.randn(64, 16)
    z = build_projector(16, Projector(dim=8, norm="layer", last_norm=True))(x)
    assert torch.allclose(z.mean(dim=1), torch.zeros(64), atol=1e-5)
    assert torch.allclose(z.var(dim=1, correction=0), torch.ones(64), atol=1e-2)
    z = build_projector(16, Projector(dim=8, last_norm=True))(x)
    assert torch.allclose(z.mean(dim=0), torch.zeros(8), atol=1e-5)
