"""The contract of probes: scores are fair, repeatable, and of what their names say."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from cl_semisup import evaluation, plugins
from cl_semisup.contract.checks import Broken, other_randomness
from cl_semisup.contract.clauses import Contract, PluginUnderTest
from cl_semisup.contract.other_process import Questions
from cl_semisup.data.images import Images
from cl_semisup.evaluation import Features, Network, ProbeResult

TRAIN, TEST, CLASSES, WIDTH, SIDE = 90, 48, 3, 8, 4
VISIBLE = 24  # training images with a visible label
LABELLED = "_labelled"  # in the name of what is learnt from visible labels alone
TRIALS = 2  # exchanges of test labels


@dataclass(frozen=True)
class Subject(PluginUnderTest):
    """A probe under test."""

    folder = "evaluation"

    def measure(self, features: Features) -> ProbeResult:
        """Of features that no other call has seen."""
        result = self.make().measure(replace(features, memo={}))
        if not isinstance(result, ProbeResult):
            raise Broken(f"measure gives {type(result).__name__}, not ProbeResult.")
        return result

    @cached_property
    def result(self) -> ProbeResult:
        """Of the features as they are, measured once."""
        return self.measure(make_features())

    def numbers(self, features: Features) -> dict[str, float]:
        """All scores and diagnostics."""
        result = self.measure(features)
        return {**result.scores, **result.diagnostics}

    def questions(self) -> Questions:
        """All that it measures, with the test labels and with other ones."""

        def with_other_labels() -> list[float]:
            features = make_features()
            return _in_order(self.numbers(replace(features, test_labels=features.test_labels.flip(0))))

        return {
            "a number": lambda: _in_order({**self.result.scores, **self.result.diagnostics}),
            "a number with other labels": with_other_labels,
        }


CONTRACT = Contract[Subject]()


@CONTRACT.clause
def measures(subject: Subject) -> None:
    """It measures: scores are fractions in [0, 1], diagnostics are numbers."""
    result = subject.result
    for name, value in result.scores.items():
        if not isinstance(value, float) or not 0 <= value <= 1:
            raise Broken(f"the score {name} must be a float in [0, 1]. Got {value!r}.")
    for name, value in result.diagnostics.items():
        if not isinstance(value, int | float):
            raise Broken(f"the diagnostic {name} must be a number. Got {value!r}.")


@CONTRACT.clause
def declared(subject: Subject) -> None:
    """`scores` names every score that it gives, and none that another probe gives."""
    probe = plugins.load("evaluation", subject.name)
    own = getattr(probe, "scores", None)
    if not isinstance(own, tuple) or not all(isinstance(name, str) for name in own):
        raise Broken(f"scores must be a tuple of names. Got {own!r}.")
    if unknown := subject.result.scores.keys() - evaluation.score_names(subject.name, subject.settings):
        raise Broken(f"it gives {min(unknown)}, which `scores` does not name.")
    for other in plugins.names("evaluation"):
        if other != subject.name and (both := {*own} & {*getattr(plugins.load("evaluation", other), "scores", ())}):
            raise Broken(f"the probe {other!r} gives {min(both)} too. A name has one meaning: choose another.")


@CONTRACT.clause
def repeatable(subject: Subject) -> None:
    """The same features give the same numbers; no global random generator is used."""
    numbers = []
    for seed in (1, 2):
        features = make_features()
        with other_randomness(seed):
            numbers.append(subject.numbers(features))
    _require_equal(numbers[0], numbers[1], "in a second measurement")


@CONTRACT.clause
def changes_nothing(subject: Subject) -> None:
    """Features, labels, images and the network are as before."""
    features, untouched = make_features(), make_features()
    assert features.network is not None
    assert untouched.network is not None
    subject.make().measure(features)
    for field in fields(Features):
        one, other = getattr(features, field.name), getattr(untouched, field.name)
        pairs = zip(one, other, strict=True) if field.name == "test_views" else [(one, other)]
        if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in pairs):
            raise Broken(f"{field.name} are changed in place.")
    if not torch.equal(features.network.test_images, untouched.network.test_images):
        raise Broken("the test images are changed in place.")
    encoder, other_encoder = features.network.encoder, untouched.network.encoder
    before = other_encoder.state_dict()
    if changed := [name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])]:
        raise Broken(f"the network's {changed[0]} is not put back.")
    if encoder.training:
        raise Broken("the network is left in training mode.")


@CONTRACT.clause
def test_labels(subject: Subject) -> None:
    """Test labels choose nothing: each number is a mean over test images, whose labels count one by one.

    For a mean over test images, exchanging labels within one half changes the value by the same amount whatever the
    labels of the other half are. What is fitted, stopped or chosen by test labels breaks this. Labels are exchanged
    within a half only, so that each class keeps its number of images and a mean over classes is such a mean too.
    """
    features = make_features()
    labels, half, as_they_are = features.test_labels, TEST // 2, {**subject.result.scores, **subject.result.diagnostics}
    for trial in range(TRIALS):
        random = torch.Generator().manual_seed(trial)
        orders = [torch.randperm(half, generator=random) for _ in range(2)]
        halves = [(part, part[order]) for part, order in zip(labels.split(half), orders, strict=True)]
        first, second, both = (
            subject.numbers(replace(features, test_labels=torch.cat([halves[0][a], halves[1][b]])))
            for a, b in ((1, 0), (0, 1), (1, 1))
        )
        for name, value in as_they_are.items():
            if not _equal(value + both.get(name, math.nan), first.get(name, math.nan) + second.get(name, math.nan)):
                rule = "is no mean over test images: their labels seem to choose what is measured"
                raise Broken(f"{name} {rule}. If it has another reason, declare it in `exempt`.")


@CONTRACT.clause
def hidden_labels(subject: Subject) -> None:
    """What is named `_labelled` comes from visible labels alone: true labels do not change it."""
    features = make_features()
    others = replace(features, train_labels=(features.train_labels + 1) % CLASSES)
    one, other = (
        {name: value for name, value in subject.numbers(part).items() if LABELLED in name}
        for part in (features, others)
    )
    _require_equal(one, other, "with other labels where the run sees none")


@CONTRACT.clause
def without_labels(subject: Subject) -> None:
    """Without any visible label, and without any label at all, it leaves out what is not defined and does not fail."""
    features = make_features()
    nothing = torch.full_like(features.visible_labels, -1)
    hidden = subject.measure(replace(features, visible_labels=nothing))
    bare = subject.measure(replace(features, visible_labels=nothing, train_labels=nothing))
    for name in [*hidden.scores, *bare.scores]:
        if LABELLED in name:
            raise Broken(f"it gives {name} where no label is visible.")


def _in_order(numbers: Mapping[str, float]) -> list[float]:
    return [float(numbers[name]) for name in sorted(numbers)]


def make_features() -> Features:
    """Overlapping classes in equal shares, with all that a probe may use; made anew, always the same."""
    random = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn(CLASSES, WIDTH, generator=random)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % CLASSES
        return means[labels] + torch.randn(count, WIDTH, generator=random), labels

    (train, train_labels), (test, labels) = draw(TRAIN), draw(TEST)
    return Features(
        train=train,
        test=test,
        train_projections=train[:, :5].clone(),
        test_projections=test[:, :5].clone(),
        train_labels=train_labels,
        test_labels=labels,
        visible_labels=torch.where(torch.arange(TRAIN) < VISIBLE, train_labels, -1),
        test_views=(test + 0.1 * torch.randn(test.shape, generator=random), test.clone()),
        classes=CLASSES,
        seed_key=("contract", 0),
        network=_network(
            *(torch.randint(0, 256, (n, 1, SIDE, SIDE), generator=random, dtype=torch.uint8) for n in (TEST, TRAIN))
        ),
    )


def _network(images: Tensor, train_images: Tensor) -> Network:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, WIDTH), nn.ReLU()).eval()
    random = torch.Generator().manual_seed(1)
    for parameter in encoder.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random)
    first = copy.deepcopy(encoder)

    @torch.no_grad()
    def features(batch: Tensor, net: nn.Module = encoder) -> Tensor:
        found: Tensor = net(batch.float() / 255)
        return found

    def view(number: int) -> Tensor:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(number))
        return features((images.float() + 20 * noise).clamp(0, 255))

    def inputs(batch: Tensor) -> Tensor:
        return batch.float() / 255

    return Network(
        encoder,
        train_images,
        images,
        features,
        view,
        untrained=lambda batch: features(batch, first),
        dataset=lambda named: _other_data(),
        inputs=inputs,
        augmented=lambda batch, seed: (
            inputs(batch) + 0.05 * torch.rand(1, generator=torch.Generator().manual_seed(seed))
        ),
        copy=lambda: copy.deepcopy(encoder),
        initial=lambda: copy.deepcopy(first),
        fast_encoder=lambda encoder: encoder,
        shared=lambda _what, _inputs, compute: compute(),
    )


def _other_data() -> Images:
    """Three classes of images that differ in their mean."""
    labels = np.arange(60) % CLASSES
    pixels = np.random.default_rng(0).integers(0, 100, (60, 3, 6, 6)) + 60 * labels[:, None, None, None]
    images = pixels.astype(np.uint8)
    return Images(images, labels, images[:30], labels[:30], tuple("abc"))


def _require_equal(one: Mapping[str, float], other: Mapping[str, float], when: str) -> None:
    for name in one.keys() | other.keys():
        before, after = one.get(name), other.get(name)
        if before is None or after is None or not _equal(before, after):
            raise Broken(f"{name} is {before} and {when} {after}.")


def _equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))
