"""What all losses of a repetition share, and what a training step does."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cl_semisup import losses, plugins
from cl_semisup.config import grid
from cl_semisup.config.grid import Problem
from cl_semisup.data import labels
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker, weak
from cl_semisup.losses import Requirements
from cl_semisup.suite.settings import Projector, Schedule
from cl_semisup.training import ema, loop
from cl_semisup.training.loop import Diverged, History, TrainingSetup
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS, heads
from cl_semisup.training.schedule import lr_factor, scaled_learning_rate
from tests.helpers import encoders
from tests.helpers import metrics as oracles

IMAGES, SIDE, CLASSES = 64, 8, 4
SEED_KEY = ("digits", 0)
CONSTANT = Schedule(scaling="none", decay="constant")


def make(loss: Any, seed_key: tuple[object, ...] = SEED_KEY, visible_labels: Tensor | None = None) -> TrainingSetup:
    """A tiny run on random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    encoder = plugins.load("encoders", "mlp")(width=16, layers=1)
    needs = losses.requirements_of(loss).needs
    model = Model(lambda: encoder.build(1, SIDE), Projector(dim=8), CLASSES, heads(needs), seed_key)
    settings = Views(rotation=10.0, shift=0.1)
    recipes = {"full": settings, "weak": weak(settings)}
    views = {name: ViewMaker(recipe, torch.zeros(1), torch.ones(1)) for name, recipe in recipes.items()}
    optimizer = plugins.load("optimizers", "sgd")().build(*loop.split_parameters(model, loss))
    visible_labels = torch.arange(IMAGES) % CLASSES if visible_labels is None else visible_labels
    return TrainingSetup(model, loss, views, optimizer, images, visible_labels, seed_key, History())


def train(setup: TrainingSetup, **changes: Any) -> TrainingSetup:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 16, "base_learning_rate": 0.05, "schedule": CONSTANT}
    loop.train(setup, **(settings | changes))
    return setup


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class RecordingLoss(nn.Module):
    """A loss that records its arguments."""

    def __init__(self, requirements: Requirements = Requirements()):
        super().__init__()
        self.requirements, self.calls = requirements, list[dict[str, Any]]()

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor, **needs: Any) -> Tensor:
        self.calls.append({"z1": z1.detach(), "z2": z2.detach(), "labels": labels, **needs})
        return (z1 - z2).square().mean()


def test_the_same_run_twice_gives_the_same_weights_to_the_bit() -> None:
    first, again = (train(make(losses.build("nt_xent"))) for _ in range(2))
    assert torch.equal(weights(first.model), weights(again.model))
    assert first.history == again.history


def test_the_geometry_of_projections_is_recorded_along_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOGGED_POINTS", 4)  # of 8 steps: every second
    setup = train(make(RecordingLoss()))
    seen = [step for number, step in enumerate(setup.loss.calls) if number % 2]  # type: ignore[attr-defined]
    u, v = ([oracles.unit(step[side].double().numpy()) for step in seen] for side in ("z1", "z2"))
    assert setup.history.step == [1, 3, 5, 7]
    assert setup.history.effective_rank == pytest.approx([oracles.effective_rank(each) for each in u], rel=1e-4)
    assert setup.history.feature_std == pytest.approx([oracles.feature_std(each) for each in u], rel=1e-4)
    assert setup.history.alignment == pytest.approx([oracles.alignment(a, b) for a, b in zip(u, v, strict=True)])


def test_losses_of_a_repetition_share_initial_weights_views_and_batches() -> None:
    one, other = make(losses.build("nt_xent")), make(losses.build("cross_entropy"))
    assert torch.equal(weights(one.model.encoder), weights(other.model.encoder))
    assert torch.equal(weights(one.model.projector), weights(other.model.projector))
    assert torch.equal(loop.epoch_order(one, 3, 64), loop.epoch_order(make(losses.build("dhel")), 3, 64))
    recorded = [
        train(make(RecordingLoss(Requirements(needs=("index", "inputs")))), epochs=1).loss.calls[0] for _ in range(2)
    ]  # type: ignore[attr-defined]
    assert torch.equal(recorded[0]["index"], recorded[1]["index"])
    assert torch.equal(recorded[0]["inputs"][0], recorded[1]["inputs"][0])


def test_repetitions_differ_in_weights_batches_and_label_sets() -> None:
    one, other = make(losses.build("nt_xent"), ("digits", 0)), make(losses.build("nt_xent"), ("digits", 1))
    assert not torch.equal(weights(one.model), weights(other.model))
    assert not torch.equal(loop.epoch_order(one, 0, 64), loop.epoch_order(other, 0, 64))


def test_every_image_is_seen_once_an_epoch() -> None:
    setup = train(make(RecordingLoss(Requirements(needs=("index", "epoch")))), epochs=3)
    for epoch in range(3):
        seen = torch.cat([s["index"] for s in setup.loss.calls if s["epoch"] == epoch])  # type: ignore[attr-defined]
        assert sorted(seen.tolist()) == list(range(IMAGES))


def test_the_order_of_images_is_another_one_in_every_epoch() -> None:
    setup = make(losses.build("nt_xent"))
    orders = [loop.epoch_order(setup, epoch, IMAGES) for epoch in range(3)]
    assert all(not torch.equal(orders[a], orders[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_the_two_views_of_a_step_are_drawn_apart() -> None:
    (first, *_) = train(make(RecordingLoss(Requirements(needs=("inputs",)))), epochs=1).loss.calls  # type: ignore[attr-defined]
    assert not torch.equal(*first["inputs"])


def test_a_loss_that_trains_on_labelled_images_sees_no_other() -> None:
    visible_labels = torch.full((IMAGES,), -1)
    visible_labels[:6] = torch.arange(6) % CLASSES
    setup = train(
        make(RecordingLoss(Requirements(trains_on="labelled", needs=("index",))), visible_labels=visible_labels)
    )
    seen = torch.cat([s["index"] for s in setup.loss.calls])  # type: ignore[attr-defined]
    assert set(seen.tolist()) == set(range(6))
    assert len(seen) == 2 * IMAGES  # as many steps as any other loss


def test_a_hidden_label_changes_nothing() -> None:
    """Labels that the run may not see are scrambled: the trained weights stay the same to the bit."""
    true = np.arange(IMAGES, dtype=np.int64) % CLASSES
    visible_labels = labels.draw(true, "digits", 0, fraction=0.25, per_class=None).visible_labels
    scrambled = np.where(visible_labels >= 0, true, (true + 1) % CLASSES)
    again = np.where(visible_labels >= 0, scrambled, -1)
    results = []
    for visible in (visible_labels, again):
        loss = losses.build("clop", dim=8, classes=CLASSES, base="supcon")
        results.append(weights(train(make(loss, visible_labels=torch.from_numpy(visible))).model))
    assert torch.equal(*results)
    assert (visible_labels < 0).sum() > IMAGES // 2


def test_needs_are_handed_over_one_a_view() -> None:
    requirements = Requirements(
        needs=("features", "projections", "logits", "momentum_projections", "momentum_logits", "support", "progress"),
        views=("weak", "full", "full"),
        support=2,
        bound=1,
    )
    setup = train(make(RecordingLoss(requirements)), epochs=1)
    seen = setup.loss.calls[1]  # type: ignore[attr-defined]
    rows = 16 + CLASSES  # one image of each class joins the batch (`bound`)
    assert [tuple(h.shape) for h in seen["features"]] == [(rows, 16)] * 3
    assert [tuple(z.shape) for z in seen["projections"]] == [(rows, 8)] * 3
    assert torch.equal(seen["projections"][1].detach(), seen["z2"])
    assert [tuple(y.shape) for y in seen["logits"]] == [(rows, CLASSES)] * 3
    assert not seen["momentum_logits"][0].requires_grad
    support, of_class = seen["support"]
    assert support.shape == (2 * CLASSES, 8)
    assert of_class.bincount().tolist() == [2] * CLASSES
    assert seen["labels"].shape == (rows,)
    assert 0 < seen["progress"] < 1


def test_the_ema_model_is_a_slow_average() -> None:
    setup = make(RecordingLoss())
    ema_model = ema.make(setup.model)
    before = weights(ema_model)
    with torch.no_grad():
        for p in setup.model.parameters():
            p.add_(1.0)
    ema.update(ema_model, setup.model, 0.9)
    torch.testing.assert_close(weights(ema_model), before + 0.1)
    assert ema.decay((0.9, 1.0), 0.0) == pytest.approx(0.9)
    assert ema.decay((0.9, 1.0), 1.0) == pytest.approx(1.0)


# loss -> decay of its momentum copy at the first step, and where a cosine would lead it after the last one
MOMENTA = {
    "byol": (0.99, 1.0), "dino": (0.99, 1.0), "moco_v2": (0.99, 1.0), "moco_v3": (0.99, 1.0), "tico": (0.99, 1.0),
    "dscl": (0.99, 1.0), "patch_distillation": (0.99, 1.0), "lorac": (0.99, 0.99), "mean_teacher": (0.99, 0.999),
    "simmatch": (0.99, 0.999), "sscl_style": (0.99, 0.999),
}  # fmt: skip


def built(name: str) -> Any:
    """A loss; one whose copy serves a queue alone has a queue."""
    return losses.build(name, dim=8, classes=CLASSES, images=IMAGES, **({"queue": 16} if name == "dscl" else {}))


def test_every_loss_with_a_momentum_copy_has_its_schedule_above() -> None:
    every = {name: built(name) for name in plugins.names("losses")}
    copies = {
        name
        for name, loss in every.items()
        if any(NEEDS[need].needs_ema for need in losses.requirements_of(loss).needs)
    }
    assert copies == MOMENTA.keys()


@pytest.mark.parametrize("name", MOMENTA)
def test_the_momentum_copy_follows_its_schedule_step_by_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against plain loops over all weights in float64: m_k = last - (last - first) (cos(pi k / K) + 1) / 2."""
    seen: list[tuple[float, list[list[float]]]] = []
    made: list[Model] = []
    make_copy, update = ema.make, ema.update

    def recorded(copy: Model, model: Model, decay: float) -> None:
        seen.append((decay, [p.flatten().tolist() for p in model.parameters()]))
        update(copy, model, decay)

    monkeypatch.setattr(ema, "make", lambda model: made.append(make_copy(model)) or made[-1])  # type: ignore[func-returns-value]
    monkeypatch.setattr(ema, "update", recorded)
    setup = make(built(name))
    slow = [p.flatten().tolist() for p in setup.model.parameters()]
    train(setup)
    steps, (first, last) = 2 * IMAGES // 16, MOMENTA[name]
    assert len(seen) == steps
    for step, (decay, fast) in enumerate(seen):
        m = last - (last - first) * (math.cos(math.pi * step / steps) + 1) / 2
        assert decay == pytest.approx(m, abs=1e-15)
        for own, weights_of in zip(slow, fast, strict=True):
            for i, weight in enumerate(weights_of):
                own[i] = m * own[i] + (1 - m) * weight
    for own, parameter in zip(slow, made[0].parameters(), strict=True):
        torch.testing.assert_close(parameter.flatten().double(), torch.tensor(own).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_the_learning_rate_is_that_of_plain_loops(decay: str, warmup: float) -> None:
    epochs, each = 6, 4
    steps = epochs * each
    expected = []
    for step in range(steps):
        cold = int(warmup * each)
        if step < cold:
            expected.append((step + 1) / (cold + 1))
        elif decay == "constant":
            expected.append(1.0)
        else:
            expected.append((1 + math.cos(math.pi * (step - cold) / (steps - cold))) / 2)
    schedule = Schedule(scaling="none", decay=decay, warmup_epochs=warmup)  # type: ignore[arg-type]
    found = [lr_factor(step, steps, each, schedule) for step in range(steps)]
    assert found == pytest.approx(expected, abs=1e-15)


def test_a_loss_that_is_no_number_ends_the_run_with_its_step() -> None:
    class NotFinite:
        requirements: ClassVar[Requirements] = Requirements(needs=("index",))
        calls = 0

        def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor, index: Tensor) -> Tensor:
            self.calls += 1
            return (z1 - z2).mean() * (float("nan") if self.calls == 5 else 1.0)

    with pytest.raises(Diverged, match="the loss is not finite at step 4"):
        train(make(NotFinite()), epochs=4)


@pytest.mark.parametrize(("scaling", "expected"), [("none", 0.3), ("linear", 0.6), ("sqrt", 0.3 * 2**0.5)])
def test_the_learning_rate_is_scaled_to_the_batch_of_256(scaling: Any, expected: float) -> None:
    assert scaled_learning_rate(0.3, 512, Schedule(scaling=scaling)) == pytest.approx(expected)


def test_the_learning_rate_warms_up_linearly_and_ends_on_a_cosine() -> None:
    schedule = Schedule(warmup_epochs=2, decay="cosine")
    rates = [lr_factor(step, 100, 10, schedule) for step in range(100)]
    steps_up = [b - a for a, b in zip(rates[:20], rates[1:21], strict=True)]
    assert steps_up == pytest.approx([1 / 21] * 20)
    assert max(rates) == rates[20] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.01
    assert lr_factor(99, 100, 10, Schedule(decay="constant")) == 1.0
    longer = [lr_factor(step, 4, 10, Schedule(warmup_epochs=50, decay="constant")) for step in range(4)]
    assert longer == pytest.approx([1 / 3, 2 / 3, 1, 1])  # a warm-up longer than the run takes half of it


def test_lars_follows_its_equation() -> None:
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    optimizer = plugins.load("optimizers", "lars")(momentum=0.9, weight_decay=0.1, trust=0.01).build([weight], [bias])
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    expected_w, expected_b, m_w, m_b = np.array([[3.0, 4.0]]), np.array([1.0]), np.zeros((1, 2)), np.zeros(1)
    for step in range(3):
        g_w, g_b = np.array([[1.0, -2.0 * step]]), np.array([0.3])
        weight.grad, bias.grad = torch.tensor(g_w).float(), torch.tensor(g_b).float()
        optimizer.step()
        g_w = g_w + 0.1 * expected_w
        m_w = 0.9 * m_w + 0.01 * np.linalg.norm(expected_w) / np.linalg.norm(g_w) * g_w
        m_b = 0.9 * m_b + g_b
        expected_w, expected_b = expected_w - 0.5 * m_w, expected_b - 0.5 * m_b
    np.testing.assert_allclose(weight.detach().numpy(), expected_w, rtol=1e-6)
    np.testing.assert_allclose(bias.detach().numpy(), expected_b, rtol=1e-6)


def test_a_clipped_lars_moves_a_weight_at_the_smaller_of_its_ratio_and_the_rate() -> None:
    start, gradient = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.6, 0.8]])  # norms 5 and 1, so the ratio is 5 * trust
    for rate, moved in ((0.5, 0.05), (0.02, 0.02), (0.0, 0.0)):
        weight = nn.Parameter(start.clone())
        optimizer = plugins.load("optimizers", "lars")(momentum=0, weight_decay=0, trust=0.01, clip=True).build(
            [weight], []
        )
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient
        optimizer.step()
        assert torch.allclose(weight, start - moved * gradient)


def test_a_lars_that_does_not_clip_leaves_runs_and_their_version_as_they_were() -> None:
    """Records of LARS stay current: without `clip` the arithmetic is the one it was, in `test_lars_follows_its_equation`."""
    problems: list[Problem] = []
    lars = plugins.load("optimizers", "lars")
    (plain,) = grid.mapping({}, lars, ("optimizer",), problems, grid.defaults(lars))
    (clipped,) = grid.mapping({"clip": True}, lars, ("optimizer",), problems, grid.defaults(lars))
    assert problems == []
    assert "clip" not in plain
    assert clipped["clip"] is True
    assert plugins.version("optimizers", "lars") == "931944d191"


def test_lars_moves_weights_of_zero_by_the_plain_gradient() -> None:
    """Without a norm there is no ratio of norms: it is 1, and the weight does not stay at zero for ever."""
    weight = nn.Parameter(torch.zeros(2, 3))
    optimizer = plugins.load("optimizers", "lars")(momentum=0.0, weight_decay=0.1).build([weight], [])
    optimizer.param_groups[0]["lr"] = 0.5
    weight.grad = torch.arange(6.0).reshape(2, 3)
    optimizer.step()
    assert torch.allclose(weight, -0.5 * torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("name", plugins.names("optimizers"))
def test_every_optimizer_lowers_a_quadratic_and_spares_vectors_from_decay(name: str) -> None:
    weight, bias = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    optimizer = plugins.load("optimizers", name)().build([weight], [bias])
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    for _ in range(5):
        optimizer.zero_grad()
        weight.square().sum().backward()
        bias.grad = torch.zeros_like(bias)
        optimizer.step()
    assert weight.square().sum() < 9
    assert torch.equal(bias.detach(), torch.ones(3))


@pytest.mark.parametrize("name", encoders.complete())
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_every_encoder_gives_features_of_the_width_it_says(name: str, channels: int, side: int) -> None:
    encoder = plugins.load("encoders", name)().build(channels, side).eval()
    with torch.no_grad():
        assert encoder(torch.zeros(2, channels, side, side)).shape == (2, encoder.dim)


def test_small_images_get_the_cifar_stem_and_large_ones_the_original() -> None:
    build = plugins.load("encoders", "resnet18")().build
    small, large = build(3, 32), build(3, 64)
    assert small.conv1.kernel_size == (3, 3)
    assert isinstance(small.maxpool, nn.Identity)
    assert large.conv1.kernel_size == (7, 7)


def test_bfloat16_autocast_trains_and_the_loss_sees_float32() -> None:
    setup = train(make(RecordingLoss()), autocast=torch.bfloat16)
    assert setup.loss.calls[0]["z1"].dtype == torch.float32  # type: ignore[attr-defined]
    assert all(np.isfinite(setup.history.loss))


class SyncCounter(TorchDispatchMode):
    """Counts operations for which the host waits for the device: reading a number, sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name() in ("aten::_local_scalar_dense", "aten::nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_no_step_waits_for_the_device_but_those_that_are_logged(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for logged in (4, 2):  # of 8 steps
        monkeypatch.setattr(loop, "LOGGED_POINTS", logged)
        setup = make(losses.build("nt_xent"))
        weights_, others = loop.split_parameters(setup.model, setup.loss)
        changed = replace(setup, optimizer=plugins.load("optimizers", optimizer)().build(weights_, others))
        with SyncCounter() as syncs:
            train(changed)
        counts.append(syncs.count)
    assert counts[0] == 2 * counts[1] > 0
