"""A batch in chunks has the gradient of the whole batch. A run that lacks memory uses chunks, or fails and says why."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses, plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, weak
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.machine import Machine
from cl_semisup.losses import requirements_of
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.suite.suite import Suite
from cl_semisup.training import loop
from cl_semisup.training.chunks import ChunkedEncoder, can_be_chunked, encode_in_chunks
from cl_semisup.training.loop import History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.needs import heads
from tests.helpers import encoders

IMAGES, SIDE, CLASSES, DIM = 48, 8, 4, 12
SEED_KEY = ("digits", 0)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("nt_xent", {}),
    ("supcon", {}),
    ("vicreg", {}),
    ("clop", {"base": "nt_xent"}),
    ("cross_entropy", {}),
    ("moco_v3", {}),
    ("swav", {"prototypes": 12, "queue": 24, "queue_epoch": 0}),
]


def encoder() -> nn.Module:
    return plugins.load("encoders", "vit")(patch=4, layers=2, heads=2, head_width=8).build(1, SIDE)


def gradients(encode: nn.Module, loss: Any, dtype: torch.dtype, count: int) -> list[Tensor]:
    """Gradients of an encoder and a projector with batch norm; the batch goes through the encoder in `count` chunks."""
    encode, head = copy.deepcopy(encode).to(dtype), copy.deepcopy(PROJECTOR).to(dtype)
    chunks = ChunkedEncoder(encode, count)
    inputs = torch.randn(2 * 11, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).to(dtype)
    z1, z2 = head(chunks(inputs)).chunk(2)
    loss(z1, z2, torch.arange(11) % CLASSES).backward()
    chunks.backward()
    return [p.grad for p in (*encode.parameters(), *head.parameters())]


PROJECTOR = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, DIM))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", ["nt_xent", "supcon", "vicreg"])
def test_the_gradient_is_that_of_the_whole_batch(name: str, dtype: torch.dtype, tolerance: float) -> None:
    loss, encode = losses.build(name, dim=DIM, classes=CLASSES), encoder()
    whole = gradients(encode, loss, dtype, 1)
    largest = max(float(g.abs().max()) for g in whole)
    for count in (2, 3, 22):
        for expected, actual in zip(whole, gradients(encode, loss, dtype, count), strict=True):
            assert float((expected - actual).abs().max()) <= tolerance * max(1.0, largest)


def test_adding_up_the_gradients_of_small_batches_is_another_loss() -> None:
    """With fewer negatives the gradient differs, so the test above can fail."""
    encode, loss = encoder(), losses.build("nt_xent")
    inputs = torch.randn(2, 12, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    gradients_ = []
    for batches in (1, 3):
        encode.zero_grad()
        for one, other in zip(inputs[0].chunk(batches), inputs[1].chunk(batches), strict=True):
            (loss(encode(one), encode(other), None) / batches).backward()
        gradients_.append(torch.cat([p.grad.flatten() for p in encode.parameters() if p.grad is not None]))
    assert (gradients_[0] - gradients_[1]).norm() > 0.05 * gradients_[0].norm()


def train(name: str, params: dict[str, Any], chunks: int, autocast: torch.dtype | None = None) -> TrainingSetup:
    loss = losses.build(name, dim=DIM, classes=CLASSES, images=IMAGES, **params)
    model = Model(encoder, Projector(dim=DIM), CLASSES, heads(requirements_of(loss).needs), SEED_KEY)
    settings, mean, std = Views(shift=0.1), torch.tensor([0.3]), torch.tensor([0.35])
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    setup = TrainingSetup(
        model=model,
        loss=loss,
        views={"full": ViewMaker(settings, mean, std), "weak": ViewMaker(weak(settings), mean, std)},
        optimizer=plugins.load("optimizers", "sgd")().build(*loop.split_parameters(model, loss)),
        images=images.to(torch.uint8),
        visible_labels=torch.arange(IMAGES) % CLASSES,
        seed_key=SEED_KEY,
        history=History(),
    )
    constant = Schedule(scaling="none", decay="constant")
    loop.train(
        setup, epochs=2, batch_size=16, base_learning_rate=0.05, schedule=constant, chunks=chunks, autocast=autocast
    )
    return setup


@pytest.mark.parametrize(("name", "params"), CASES, ids=[name for name, _ in CASES])
def test_a_training_in_chunks_is_the_same_to_rounding(name: str, params: dict[str, Any]) -> None:
    whole, chunked = (train(name, params, chunks) for chunks in (1, 3))
    for expected, actual in zip(whole.model.parameters(), chunked.model.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)
    assert chunked.history.loss == pytest.approx(whole.history.loss, rel=1e-4)
    assert chunked.history.gradient_norm == pytest.approx(whole.history.gradient_norm, rel=1e-3)


def test_bfloat16_trains_the_same_in_chunks() -> None:
    whole, chunked = (train("nt_xent", {}, chunks, torch.bfloat16) for chunks in (1, 3))
    assert chunked.history.loss == pytest.approx(whole.history.loss, rel=0.02)
    norms = [sum(each.history.gradient_norm) for each in (whole, chunked)]  # one norm alone has 10 % rounding noise
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


@pytest.mark.parametrize("name", encoders.complete())
def test_an_encoder_takes_chunks_unless_batch_norm_joins_its_images(name: str) -> None:
    encode = plugins.load("encoders", name)().build(3, 16)
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encode.modules())
    before = copy.deepcopy(encode.state_dict())
    assert can_be_chunked(encode, torch.randn(8, 3, 16, 16)) is not has_batch_norm
    assert all(torch.equal(value, before[key]) for key, value in encode.state_dict().items())


def test_an_encoder_that_draws_anew_in_every_pass_takes_no_chunks() -> None:
    assert can_be_chunked(nn.Linear(4, 4), torch.randn(8, 4))
    assert not can_be_chunked(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2)), torch.randn(8, 4))
    assert not encode_in_chunks(nn.Linear(4, 4), torch.randn(8, 4), 3).requires_grad


Parse = Callable[[str], Suite]
VIT = "encoder: {vit: {patch: 4, layers: 1, heads: 1, head_width: 16}}"
MLP = "encoder: {mlp: {width: 16, layers: 1}}"


def limit_batch(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every encoder run out of memory in training if it gets more than `rows` images at once."""
    forward = nn.Module.__call__

    def call(module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        if hasattr(module, "dim") and module.training and len(inputs[0]) > rows:
            raise torch.OutOfMemoryError("Tried to allocate 3 TiB.")
        return forward(module, *inputs, **keywords)

    monkeypatch.setattr(nn.Module, "__call__", call)


def test_a_run_that_does_not_fit_is_done_in_chunks_and_says_so(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = parse(text.replace(MLP, VIT)).runs[-1]
    machine = Machine("cpu", str(Path()))
    whole, curves = Executor(machine)(run)
    assert "chunks" not in whole["resolved"]
    limit_batch(64, monkeypatch)  # of the 256 that a batch has in its two views
    record, again = Executor(machine)(run)
    assert (record["status"], record["resolved"].pop("chunks")) == ("ok", 4)
    assert record["resolved"] == whole["resolved"]
    assert record["id"] == whole["id"]
    assert again["history"]["step"] == curves["history"]["step"]
    assert again["history"]["loss"] == pytest.approx(curves["history"]["loss"], rel=1e-4)
    assert record["scores"] == pytest.approx(whole["scores"], abs=0.02)


def test_with_batch_norm_lack_of_memory_is_a_failure_that_names_the_peak(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_batch(64, monkeypatch)
    record, _ = Executor(Machine("cpu", str(Path())))(parse(text).runs[-1])
    assert record["status"] == "failed"
    assert record["reason"].startswith("out of memory (peak ")
    assert "chunks" not in record["resolved"]


def test_a_run_that_does_not_fit_one_image_at_a_time_fails_and_names_the_chunks(
    parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_batch(0, monkeypatch)
    monkeypatch.setattr("cl_semisup.execution.trainer.can_be_chunked", lambda *_: True)
    record, _ = Executor(Machine("cpu", str(Path())))(parse(text.replace(MLP, VIT)).runs[-1])
    assert record["status"] == "failed"
    assert record["reason"].startswith("out of memory in 128 chunks a batch (peak ")
