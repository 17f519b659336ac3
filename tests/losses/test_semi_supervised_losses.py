"""Semi-supervised methods and wrappers: golden values, memories over several steps, attacks that leave no trace."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_semisup import losses, plugins, seeds
from cl_semisup.contract import Batch, extra_inputs
from cl_semisup.errors import InputError
from cl_semisup.losses import requirements_of
from cl_semisup.suite.settings import Projector
from cl_semisup.training.model import Model
from cl_semisup.training.needs import NEEDS, StepContext
from tests.helpers.embeddings import golden_views
from tests.oracles import comatch, simmatch, sscl_style
from tests.oracles.fixmatch import probabilities
from tests.oracles.loops import mean

Z1, Z2 = golden_views()
FULL, SEMI = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 1, -1, 2, -1])


@pytest.mark.parametrize(
    ("base", "labels", "golden"),
    [
        ({"nt_xent": {"temperature": 0.5}}, None, 0.94720011),
        ({"nt_xent": {"temperature": 0.1}}, None, 0.09106307),
        ({"supcon": {"temperature": 0.1}}, FULL, 7.61699885),
        ({"supcon": {"temperature": 0.1}}, SEMI, 3.63728172),
        ({"dhel": {"temperature": 0.3}}, None, 0.66069783),
    ],
)
@pytest.mark.parametrize(
    "alike", [{"kept": 1.0}, {"weights": "ramp", "kept": 1.0}, {"weights": "power", "power": 0.0}, {"warm_up": 1.0}]
)
def test_an_l_statistic_that_weighs_all_images_alike_is_its_base(
    base: Any, labels: Tensor | None, golden: float, alike: dict[str, Any]
) -> None:
    value = losses.build("l_statistic", base=base, **alike)(Z1, Z2, labels, progress=0.5)
    assert float(value) == pytest.approx(golden, abs=1e-6)
    assert float(losses.build(next(iter(base)), **base[next(iter(base))])(Z1, Z2, labels)) == pytest.approx(
        golden, abs=1e-6
    )


def test_trimming_leaves_the_hardest_images_out() -> None:
    values = losses.build("nt_xent").per_image(Z1, Z2)  # type: ignore[attr-defined]
    trimmed = losses.build("l_statistic", kept=0.5)(Z1, Z2, None, progress=0.5)
    assert float(trimmed) == pytest.approx(float(values.sort().values[:3].mean()))
    outlier = torch.cat([Z2[:5], -10 * Z2[5:]])
    assert losses.build("l_statistic", kept=0.5)(Z1, outlier, None, progress=0.5) < losses.build("nt_xent")(Z1, outlier)


@pytest.mark.parametrize(
    ("divergence", "value"),
    [
        ("kl", math.exp(2) - 1 - 2),
        ("reverse_kl", 2 - 1 + math.exp(-2)),
        ("js", math.log1p(math.exp(2)) + math.log1p(math.exp(-2))),
        ("pearson", math.exp(4) - 1 - 2 * (math.exp(2) - 1)),
        ("hellinger", math.exp(1) - 1 - (1 - math.exp(-1))),
    ],
)
def test_f_divergence_of_collapsed_embeddings_is_its_closed_form(divergence: str, value: float) -> None:
    row = torch.ones(5, 4, dtype=torch.float64)
    found = losses.build("f_divergence", divergence=divergence, temperature=0.5)(row, row)
    assert float(found) == pytest.approx(value)
    assert value >= -1e-12  # a constant critic bounds every divergence from below by at most 0


def _steps(loss: nn.Module, count: int) -> list[tuple[Batch, Tensor, dict[str, Any]]]:
    """Batches of 7 of 12 images, overlapping, with what the loss needs."""
    found = []
    for seed in range(count):
        batch = Batch.draw(images=7, dim=5, classes=3, seed=seed)
        index = (torch.arange(7) + 3 * seed) % 12
        found.append((batch, index, extra_inputs(requirements_of(loss), batch, index, 3)))
    return found


def _built(name: str, **params: Any) -> nn.Module:
    loss = losses.build(name, dim=5, classes=3, images=12, **params)
    assert isinstance(loss, nn.Module)
    return loss.double()


def test_comatch_remembers_the_last_images_and_mean_guesses() -> None:
    params = {"threshold": 0.4, "graph_threshold": 0.3, "smoothing": 0.5, "memory": 10, "alignment": 2}
    loss, held, means = _built("comatch", **params), [], []
    for batch, _, extras in _steps(loss, 4):
        assert batch.labels is not None
        raw = [probabilities(row) for row in extras["logits"][0]]
        means = [*means, [mean(p[c] for p in raw) for c in range(3)]][-2:]
        # before it is full, the mean is over the empty places too, which scales all classes alike
        arguments = {"held": held, "means": means, **params, **extras}
        expected = comatch.oracle(list(batch.z1), list(batch.z2), batch.labels.tolist(), **arguments)
        torch.testing.assert_close(loss(batch.z1, batch.z2, batch.labels, **extras), expected)
        for row, guess, label in zip(
            extras["projections"][0], simmatch.aligned(raw, means), batch.labels.tolist(), strict=True
        ):
            one_hot = [torch.tensor(float(c == label), dtype=torch.float64) for c in range(3)]
            held = [*held, (row, one_hot if label >= 0 else guess)][-10:]


def test_simmatch_remembers_the_last_key_of_every_labelled_image() -> None:
    params = {"threshold": 0.3, "smoothing": 0.4, "alignment": 2}
    loss, held, means = _built("simmatch", **params), {}, []
    for batch, _, extras in _steps(loss, 4):
        assert batch.labels is not None
        raw = [probabilities(row) for row in extras["momentum_logits"][0]]
        means = [*means, [mean(p[c] for p in raw) for c in range(3)]][-2:]
        arguments = {"held": held, "means": means, **params, **extras}
        expected = simmatch.oracle(list(batch.z1), list(batch.z2), batch.labels.tolist(), **arguments)
        torch.testing.assert_close(loss(batch.z1, batch.z2, batch.labels, **extras), expected)


def test_sscl_style_remembers_the_last_keys_and_their_classes() -> None:
    params = {"threshold": 0.5, "neighbours": 3, "memory": 10}
    loss, held = _built("sscl_style", **params), []
    for batch, _, extras in _steps(loss, 4):
        assert batch.labels is not None
        expected = sscl_style.oracle(
            list(batch.z1), list(batch.z2), batch.labels.tolist(), held=held, **params, **extras
        )
        torch.testing.assert_close(loss(batch.z1, batch.z2, batch.labels, **extras), expected)


@pytest.mark.parametrize("name", ["comatch", "simmatch", "sscl_style"])
def test_a_memory_learns_in_training_only(name: str) -> None:
    loss = _built(name)
    (batch, _, extras), *_ = _steps(loss, 1)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    with torch.no_grad():
        loss(batch.z1, batch.z2, batch.labels, **extras)
    loss.eval()(batch.z1, batch.z2, batch.labels, **extras)
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())
    loss.train()(batch.z1, batch.z2, batch.labels, **extras)
    assert any(not torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", ["comatch", "simmatch", "sscl_style"])
def test_more_images_than_a_memory_holds_leave_the_last_ones(name: str) -> None:
    loss = _built(name, **({} if name == "simmatch" else {"memory": 3}))
    (batch, _, extras), *_ = _steps(loss, 1)
    assert torch.isfinite(loss(batch.z1, batch.z2, batch.labels, **extras))


ATTACKS = ["asymmetric_adversarial", "adversarial_distribution"]


def _step(images: int = 6) -> StepContext:
    """A step on random images in [0, 1], mean 0.4 and deviation 0.5, of a small network with batch norm."""
    encoder = plugins.load("encoders", "convnet")(width=4, blocks=2)
    model = Model(lambda: encoder.build(1, 8), Projector(dim=5), 3, {}, ("attack",))
    model.train()
    generator = torch.Generator().manual_seed(0)
    inputs = tuple((torch.rand(images, 1, 8, 8, generator=generator) - 0.4) / 0.5 for _ in range(2))
    projections = model.projector(model.encoder(torch.cat(inputs))).chunk(2)
    pixels = (torch.full((1, 1, 1), -0.8), torch.full((1, 1, 1), 1.2))
    return StepContext(model, None, inputs, projections, projections, torch.arange(images), 0, 0.5, None, pixels)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_leaves_no_gradient_and_no_statistics_behind(name: str) -> None:
    step, loss = _step(), losses.build(name, dim=5, classes=3)
    before = {key: value.clone() for key, value in step.model.state_dict().items()}
    extras = {need: NEEDS[need].value(step) for need in requirements_of(loss).needs}
    value = loss(step.projections[0], step.projections[1], None, **extras)
    assert all(parameter.grad is None for parameter in step.model.parameters())
    assert all(torch.equal(now, before[key]) for key, now in step.model.state_dict().items())
    assert all(module.track_running_stats for module in step.model.modules() if hasattr(module, "track_running_stats"))
    value.backward()
    assert all(parameter.grad is not None for parameter in step.model.parameters())


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_stays_near_and_within_the_pixels_and_raises_the_loss(name: str) -> None:
    step, seen, extras = _step(), list[Tensor](), dict[str, Any]()

    def watched(inputs: Tensor) -> Tensor:
        seen.append(inputs.detach())
        return NEEDS["encode"].value(step)(inputs)  # type: ignore[no-any-return]

    values = []
    for steps in (0, 7):
        loss = losses.build(name, dim=5, classes=3, steps=steps, epsilon=0.1, **_large(name))
        extras = {need: NEEDS[need].value(step) for need in requirements_of(loss).needs} | {"encode": watched}
        loss(step.projections[0], step.projections[1], None, **extras)
        change = (seen[-1] - step.inputs[0]) * 0.5  # in units of a pixel in [0, 1]
        assert change.abs().max() <= 0.1 + 1e-6
        assert change.abs().mean() > 0.01
        assert seen[-1].min() >= -0.8
        assert seen[-1].max() <= 1.2
        attacked = NEEDS["encode"].value(step)(seen[-1]).detach()
        values.append(float(losses.build("nt_xent")(attacked, step.projections[1].detach())))
    assert values[1] > values[0] + 0.05


def _large(name: str) -> dict[str, Any]:
    return {"step_size": 0.03} if name == "asymmetric_adversarial" else {}


def test_an_attack_differs_from_step_to_step_and_not_from_run_to_run() -> None:
    images = torch.zeros(2, 1, 3, 3)
    loss, again, other = (losses.build("asymmetric_adversarial", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(loss.noise(images, 0.25), again.noise(images, 0.25))  # type: ignore[attr-defined]
    assert not torch.equal(loss.noise(images, 0.25), loss.noise(images, 0.5))  # type: ignore[attr-defined]
    assert not torch.equal(loss.noise(images, 0.25), other.noise(images, 0.25))  # type: ignore[attr-defined]


def test_noise_is_what_one_generator_of_the_host_draws_in_a_row() -> None:
    """As before it was sent to a device as one tensor: versions of plug-ins are declared equivalent for this."""
    images = torch.zeros(3, 1, 3, 3)  # a size for which one large draw differs from several small ones
    uniform: Any = losses.build("asymmetric_adversarial", seed=1)
    generator = torch.Generator().manual_seed(seeds.seed("attack", 1, 0.25))
    assert torch.equal(uniform.noise(images, 0.25), 2 * torch.rand(images.shape, generator=generator) - 1)
    normal: Any = losses.build("adversarial_distribution", seed=1, steps=3, samples=2)
    generator = torch.Generator().manual_seed(seeds.seed("attack", 1, 0.25))
    drawn = list(normal.noise(images, 0.25))
    assert len(drawn) == 3 * 2 + 1
    assert all(torch.equal(one, torch.randn(images.shape, generator=generator)) for one in drawn)


def test_without_weight_the_adversarial_distribution_is_its_base() -> None:
    step = _step()
    loss = losses.build("adversarial_distribution", weight=0.0)
    encode = lambda x: x.flatten(1)[:, :4].to(Z2)  # noqa: E731
    extras = {need: NEEDS[need].value(step) for need in requirements_of(loss).needs} | {"encode": encode}
    assert float(loss(Z1, Z2, None, **extras)) == pytest.approx(0.94720011, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "l_statistic",
            {"base": "vicreg"},
            "l_statistic: the base must have a value for every image. Got {'vicreg': {'invariance': 25.0, 'variance': "
            "25.0, 'covariance': 1.0, 'eps': 0.0001}}. Use one with `per_image`, such as nt_xent.",
        ),
        (
            "adversarial_distribution",
            {"base": "cross_entropy"},
            "adversarial_distribution: the base must have no state and need projections only, since the attack "
            "evaluates it many times. Got {'cross_entropy': {'label_smoothing': 0.0}}. Use another, such as nt_xent.",
        ),
        ("simmatch", {}, "simmatch: needs the number of training images. Got images=None. Give it."),
    ],
)
def test_what_a_loss_cannot_do_is_refused(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        losses.build(name, dim=5, classes=3, **params)
    assert str(refusal.value) == message
