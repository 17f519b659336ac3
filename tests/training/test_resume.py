"""A training resumed from a checkpoint gives the same bits on a CPU: network, EMA model and the state of the loss."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses, plugins
from cl_semisup.data.images import Images
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, weak
from cl_semisup.losses import requirements_of
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training import loop
from cl_semisup.training.checkpoint import Checkpoint
from cl_semisup.training.loop import History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.needs import heads

IMAGES, BATCH, EPOCHS = 80, 16, 2  # 10 steps
STOP = 7  # in the second epoch
SEED_KEY = ("digits", 0)
DIM = 12

# Every loss with its defaults, with small buffers where it has any; further variants of a loss under their own name.
SMALL: dict[str, dict[str, Any]] = {
    "adversarial_distribution": {"steps": 2},
    "asymmetric_adversarial": {"steps": 2},
    "byol": {"hidden": 16},
    "comatch": {"memory": 24, "alignment": 4, "smoothing": 0.5, "threshold": 0.2, "graph_threshold": 0.1},
    "dino": {"prototypes": 12},
    "flexmatch": {"threshold": 0.2},
    "koleo": {"base": "moco_v3"},
    "lejepa": {"directions": 8},
    "lorac": {"memory": 24},
    "moco_v2": {"queue": 24},
    "nnclr": {"queue": 24, "hidden": 16},
    "visreg": {"directions": 8},
    "simmatch": {"alignment": 4},
    "softmatch": {"memory": 0.5},
    "sscl_style": {"memory": 24, "threshold": 0.2},
    "swav": {"prototypes": 12, "queue": 24, "queue_epoch": 1},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "anti_collapse pair": ("anti_collapse", {"kind": "pair", "form": "linear"}),
    "clop learned": ("clop", {"prototypes": "learned"}),
    "clop over pauc": ("clop", {"base": "pauc"}),
    "dscl queue": ("dscl", {"queue": 24}),
    "l_statistic of labels": ("l_statistic", {"base": "cross_entropy", "kept": 0.5}),
}
CASES = {name: (name, SMALL.get(name, {})) for name in plugins.names("losses")} | VARIANTS
# Losses whose state changes in training.
STATEFUL = [
    "anti_collapse", "blcl", "byol", "clop learned", "comatch", "dino", "dscl queue", "flexmatch", "freematch", "koleo",
    "lorac", "moco_v2", "moco_v3", "nnclr", "nonl", "normface", "ntce", "patch_distillation",
    "pauc", "clop over pauc", "semisupcon", "siglip", "simmatch", "simsiam",
    "softmatch", "sscl_style", "swav", "targeted_supcon", "tico",
]  # fmt: skip
# Other optimizers, for losses with parameters (of dino and swav at first without a gradient) or buffers.
OTHER_OPTIMIZERS = [
    (case, optimizer) for case in ("byol", "blcl", "dino", "swav", "siglip") for optimizer in ("adamw", "lars")
]


class InterruptedRunError(RuntimeError):
    """Stands for a crash."""


def _crash_after(steps: int, optimizer: torch.optim.Optimizer) -> None:
    """Raise an error in a later step, before the weights change."""
    remaining = iter(range(steps))

    def crash(*_: Any) -> None:
        if next(remaining, None) is None:
            raise InterruptedRunError

    optimizer.register_step_pre_hook(crash)


@cache
def _digits() -> Images:
    images: Images = plugins.load("datasets", "digits")().load(Path())
    return images


def _setup(name: str, params: dict[str, Any], optimizer: str = "sgd") -> TrainingSetup:
    data = _digits()
    loss = losses.build(name, dim=DIM, classes=10, images=IMAGES, **params)
    encoder = plugins.load("encoders", "mlp")(width=16, layers=1)
    model = Model(lambda: encoder.build(1, 8), Projector(dim=DIM), 10, heads(requirements_of(loss).needs), SEED_KEY)
    visible_labels = torch.as_tensor(data.train_labels[:IMAGES]).clone()
    visible_labels[::2] = -1
    mean, std = torch.tensor([0.3]), torch.tensor([0.35])
    settings = Views(rotation=15.0, shift=0.1)
    weights, others = loop.split_parameters(model, loss)
    return TrainingSetup(
        model=model,
        loss=loss,
        views={"full": ViewMaker(settings, mean, std), "weak": ViewMaker(weak(settings), mean, std)},
        optimizer=plugins.load("optimizers", optimizer)().build(weights, others),
        images=torch.as_tensor(data.train_images[:IMAGES]),
        visible_labels=visible_labels,
        seed_key=SEED_KEY,
        history=History(),
    )


def _train(setup: TrainingSetup, checkpoint: Checkpoint | None = None) -> None:
    loop.train(
        setup,
        epochs=EPOCHS,
        batch_size=BATCH,
        base_learning_rate=0.05,
        schedule=Schedule(warmup_epochs=0.5),
        checkpoint=checkpoint,
    )


def _tensors(setup: TrainingSetup) -> dict[str, Tensor]:
    """Everything that training changes: network, loss, optimizer."""
    tensors = {f"model.{key}": value for key, value in setup.model.state_dict().items()}
    if isinstance(setup.loss, nn.Module):
        tensors |= {f"loss.{key}": value for key, value in setup.loss.state_dict().items()}
    for number, state in setup.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    return tensors


@pytest.mark.parametrize(("case", "optimizer"), [*((case, "sgd") for case in CASES), *OTHER_OPTIMIZERS])
def test_a_resumed_training_is_the_same_bit_for_bit(case: str, optimizer: str, tmp_path: Path) -> None:
    name, params = CASES[case]
    whole = _setup(name, params, optimizer)
    _train(whole)

    interrupted = _setup(name, params, optimizer)
    _crash_after(STOP, interrupted.optimizer)
    with pytest.raises(InterruptedRunError):
        _train(interrupted, Checkpoint(tmp_path / "run.pt", interval=0))

    resumed = _setup(name, params, optimizer)
    saved = Checkpoint(tmp_path / "run.pt", interval=0)
    state = saved.load(torch.device("cpu"))  # tensors and numbers only
    assert state is not None
    assert state["step"] == STOP
    _train(resumed, saved)

    expected, actual = _tensors(whole), _tensors(resumed)
    assert expected.keys() == actual.keys()
    different = [key for key in expected if not torch.equal(expected[key], actual[key])]
    assert not different
    assert whole.history == resumed.history


@pytest.mark.parametrize("case", STATEFUL)
def test_the_state_of_a_loss_changes_and_matters(case: str, tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing: without the state of the loss the result differs."""
    name, params = CASES[case]
    whole = _setup(name, params)
    first = _loss_state(whole)
    _train(whole)
    assert _changed(first, _loss_state(whole))

    interrupted = _setup(name, params)
    _crash_after(STOP, interrupted.optimizer)
    checkpoint = Checkpoint(tmp_path / "run.pt", interval=0)
    with pytest.raises(InterruptedRunError):
        _train(interrupted, checkpoint)
    state = checkpoint.load(torch.device("cpu"))
    assert state is not None
    state["loss"] = first
    checkpoint.save(state)
    without_state = _setup(name, params)
    _train(without_state, checkpoint)
    assert whole.history.loss != without_state.history.loss


@pytest.mark.parametrize("case", sorted(CASES.keys() - set(STATEFUL)))
def test_no_other_loss_has_a_state_that_changes(case: str) -> None:
    """A loss whose state changes in training belongs in the list above."""
    setup = _setup(*CASES[case])
    first = _loss_state(setup)
    if first:
        _train(setup)
        assert not _changed(first, _loss_state(setup))


def _loss_state(setup: TrainingSetup) -> dict[str, Tensor]:
    """A copy of the loss's state."""
    if not isinstance(setup.loss, nn.Module):
        return {}
    return {key: value.clone() for key, value in setup.loss.state_dict().items()}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return any(not torch.equal(value, after[key]) for key, value in before.items())
