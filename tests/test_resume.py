"""A training interrupted at a checkpoint goes on bit for bit on a CPU: network, momentum copy and the loss's memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses, plugins
from cl_semisup.losses import asks
from cl_semisup.settings import Projector, Schedule, Views
from cl_semisup.training import loop
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.loop import History, Parts
from cl_semisup.training.model import Model
from cl_semisup.views import ViewMaker, weak

IMAGES, BATCH, EPOCHS = 80, 16, 2  # 10 steps
STOP = 7  # in the second epoch
NAMES = ("digits", 0)
DIM = 12

CASES: list[tuple[str, dict[str, Any]]] = [
    ("byol", {"hidden": 16}),
    ("moco_v2", {"queue": 24}),
    ("swav", {"prototypes": 12, "queue": 24, "queue_epoch": 1}),
    ("dino", {"prototypes": 12}),
    ("tico", {}),
    ("siglip", {}),
    ("clop", {}),
    ("lejepa", {"directions": 8}),
    ("koleo", {"base": "moco_v3"}),
]


class InterruptedRunError(RuntimeError):
    """Stands for a crash."""


def _crash_after(steps: int, optimizer: torch.optim.Optimizer) -> None:
    """Die in the middle of a step, before the weights move."""
    done = iter(range(steps))

    def crash(*_: Any) -> None:
        if next(done, None) is None:
            raise InterruptedRunError

    optimizer.register_step_pre_hook(crash)


def _parts(name: str, params: dict[str, Any], optimizer: str = "sgd") -> Parts:
    data = plugins.load("datasets", "digits")().load(Path())
    loss = losses.build(name, dim=DIM, classes=10, images=IMAGES, **params)
    encoder = plugins.load("encoders", "mlp")(width=16, layers=1)
    model = Model(lambda: encoder.build(1, 8), Projector(dim=DIM), 10, asks(loss).needs, NAMES)
    shown = torch.as_tensor(data.train_labels[:IMAGES]).clone()
    shown[::2] = -1
    mean, std = torch.tensor([0.3]), torch.tensor([0.35])
    settings = Views(rotation=15.0, shift=0.1)
    weights, others = loop.parameters(model, loss)
    return Parts(
        model=model,
        loss=loss,
        views={"full": ViewMaker(settings, mean, std), "weak": ViewMaker(weak(settings), mean, std)},
        optimizer=plugins.load("optimizers", optimizer)().build(weights, others),
        images=torch.as_tensor(data.train_images[:IMAGES]),
        shown=shown,
        names=NAMES,
        history=History(),
    )


def _train(parts: Parts, checkpoint: Checkpoint | None = None) -> None:
    loop.train(
        parts, epochs=EPOCHS, batch_size=BATCH, peak=0.05, schedule=Schedule(warmup_epochs=0.5), checkpoint=checkpoint
    )


def _tensors(parts: Parts) -> dict[str, Tensor]:
    """Everything that training changes: network, loss, optimizer."""
    found = {f"model.{key}": value for key, value in parts.model.state_dict().items()}
    if isinstance(parts.loss, nn.Module):
        found |= {f"loss.{key}": value for key, value in parts.loss.state_dict().items()}
    for number, state in parts.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize(("name", "params"), CASES, ids=[name for name, _ in CASES])
def test_a_resumed_training_is_the_same_bit_for_bit(
    name: str, params: dict[str, Any], optimizer: str, tmp_path: Path
) -> None:
    whole = _parts(name, params, optimizer)
    _train(whole)

    broken = _parts(name, params, optimizer)
    _crash_after(STOP, broken.optimizer)
    with pytest.raises(InterruptedRunError):
        _train(broken, Checkpoint(tmp_path / "run.pt", every=0))

    resumed = _parts(name, params, optimizer)
    saved = Checkpoint(tmp_path / "run.pt", every=0)
    state = saved.load(torch.device("cpu"))  # tensors and plain values only
    assert state is not None
    assert state["step"] == STOP
    _train(resumed, saved)

    expected, found = _tensors(whole), _tensors(resumed)
    assert expected.keys() == found.keys()
    different = [key for key in expected if not torch.equal(expected[key], found[key])]
    assert not different
    assert whole.history == resumed.history


@pytest.mark.parametrize("name", ["byol", "moco_v2", "swav", "dino", "tico", "siglip"])
def test_the_memory_of_a_loss_changes_and_matters(name: str, tmp_path: Path) -> None:
    """Else the test above would prove nothing: with the loss's state left out, the end is another."""
    params = dict(CASES)[name]
    whole = _parts(name, params)
    assert isinstance(whole.loss, nn.Module)
    first = {key: value.clone() for key, value in whole.loss.state_dict().items()}
    _train(whole)
    assert any(not torch.equal(first[key], value) for key, value in whole.loss.state_dict().items())

    broken = _parts(name, params)
    _crash_after(STOP, broken.optimizer)
    checkpoint = Checkpoint(tmp_path / "run.pt", every=0)
    with pytest.raises(InterruptedRunError):
        _train(broken, checkpoint)
    state = checkpoint.load(torch.device("cpu"))
    assert state is not None
    state["loss"] = first
    checkpoint.save(state)
    forgetful = _parts(name, params)
    _train(forgetful, checkpoint)
    assert whole.history.loss != forgetful.history.loss
