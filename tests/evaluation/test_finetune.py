"""Fine-tuning, linear probes with augmentation and of several blocks: against plain loops, and what they may use."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_semisup import plugins
from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features, Network, accuracy, score_names
from cl_semisup.evaluation import _finetuning as finetuning
from cl_semisup.evaluation import finetune as probe
from cl_semisup.evaluation._finetuning import LabelledImages, Recipe, Start
from cl_semisup.evaluation._stages import blocks, outputs
from cl_semisup.measures.logistic import SoftmaxRegression
from cl_semisup.seeds import seed
from tests.helpers.probes import CLASSES, make_features, measure

RECIPE = Recipe("all", 3, 0.01, 0.5, fitted_head=False, batch_size=8, weight_decay=0.1, rank=2)


def _network(encoder: nn.Module) -> tuple[Network, LabelledImages]:
    """A network around this encoder, and 20 labelled images of 1 x 8 x 8."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 1, 8, 8), generator=generator, dtype=torch.uint8)
    features = make_features()
    assert features.network is not None
    network = replace(features.network, encoder=encoder, train_images=images, copy=lambda: copy.deepcopy(encoder))
    return network, LabelledImages(images, torch.arange(20) % 4, 4)


def _convnet() -> nn.Module:
    torch.manual_seed(0)
    return plugins.load("encoders", "convnet")(width=4, blocks=2).build(1, 8)


def _weights(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def _loop(encoder: nn.Module, network: Network, data: LabelledImages, recipe: Recipe, name: int) -> list[Tensor]:
    """Fine-tuning of all weights of a two-block convnet with AdamW written out; returns weights, then those of the head."""
    encoder = copy.deepcopy(encoder).train()
    conv1, norm1, conv2, norm2 = (encoder[i] for i in (0, 1, 4, 5))
    head_weight, head_bias = torch.zeros(data.classes, 8), torch.zeros(data.classes)
    rates = {id(p): recipe.layer_decay for p in (*conv1.parameters(), *norm1.parameters())}
    weights = [*(p for m in (conv1, norm1, conv2, norm2) for p in m.parameters()), head_weight, head_bias]
    weights = [w.detach().requires_grad_() if not isinstance(w, nn.Parameter) else w for w in weights]
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    batch, steps, step = recipe.batch_size, recipe.epochs * (len(data.labels) // recipe.batch_size), 0
    for epoch in range(recipe.epochs):
        generator = torch.Generator().manual_seed(seed("finetune order", name, epoch))
        order = torch.randperm(len(data.labels), generator=generator)
        for at in range(0, len(order) - batch + 1, batch):
            rows = order[at : at + batch]
            inputs = network.augmented(data.images[rows], seed("finetune views", name, step))
            loss = F.cross_entropy(encoder(inputs) @ weights[-2].T + weights[-1], data.labels[rows])
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient, (m, v) in zip(weights, gradients, moments, strict=True):
                    lr = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2 * rates.get(id(weight), 1.0)
                    weight.mul_(1 - lr * (recipe.weight_decay if weight.ndim > 1 else 0.0))
                    m.add_(0.1 * (gradient - m))
                    v.add_(0.001 * (gradient**2 - v))
                    update = m / (1 - 0.9 ** (step + 1)) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
                    weight.sub_(lr * update)
            step += 1
    return weights


def test_fine_tuning_is_adamw_with_a_cosine_and_a_rate_for_each_block() -> None:
    encoder = _convnet()
    network, data = _network(encoder)
    model = finetuning.fine_tune(Start("x", network.copy), data, network, RECIPE, 5)
    expected = _loop(encoder, network, data, RECIPE, 5)
    found = [*model.encoder.parameters(), *model.head.parameters()]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5), (one - other).abs().max()


def test_a_step_is_one_of_torchs_fused_adamw_to_the_bit() -> None:
    """With a group for each weight, changing rates, and a weight that gets its first gradient late."""
    random = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(*shape, generator=random)) for shape in ((9, 5), (7,), (4, 3, 3, 3), (6, 2))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    scales = [1.0, 1.0, 0.65, 0.65]
    optimizer = finetuning.AdamW([(ours[:2], 1.0), (ours[2:], 0.65)], 0.1)
    assert [len(group) for group in optimizer.groups.values()] == [1, 1, 2]
    expected = torch.optim.AdamW([{"params": [w], "weight_decay": 0.1 * (w.ndim > 1)} for w in theirs], fused=True)
    for step in range(8):
        rate = 0.01 / (step + 1)
        for group, scale in zip(expected.param_groups, scales, strict=True):
            group["lr"] = rate * scale
        for weight, other in list(zip(ours, theirs, strict=True))[: 3 if step < 2 else 4]:
            weight.grad = torch.randn(weight.shape, generator=random)
            other.grad = weight.grad.clone()
        optimizer.step(rate)
        expected.step()
        assert all(weight.grad is None for weight in ours)
        assert all(torch.equal(weight, other) for weight, other in zip(ours, theirs, strict=True))


def test_only_the_named_part_is_trained_and_the_given_encoder_is_not_changed() -> None:
    encoder = _convnet()
    network, data = _network(encoder)
    before = _weights(encoder)
    for trains, moved in (("head", set()), ("last", {4, 5}), ("all", {0, 1, 4, 5})):
        model = finetuning.fine_tune(Start("x", network.copy), data, network, replace(RECIPE, trains=trains), 5)
        changed = set()
        for name, value in model.encoder.named_parameters():
            if not torch.equal(value, dict(encoder.named_parameters())[name]):
                changed.add(int(name.partition(".")[0]))
        assert changed == moved, trains
    assert all(torch.equal(a, b) for a, b in zip(before, _weights(encoder), strict=True))


def test_low_rank_updates_start_from_the_same_function_and_move_it() -> None:
    encoder = _convnet().eval()
    network, data = _network(encoder)
    recipe = replace(RECIPE, trains="lora", learning_rate=0.0)
    inputs = network.inputs(data.images)
    still = finetuning.fine_tune(Start("x", network.copy), data, network, recipe, 5)
    assert torch.allclose(still.encoder(inputs), encoder(inputs), atol=1e-6)
    moved = finetuning.fine_tune(Start("x", network.copy), data, network, replace(recipe, learning_rate=0.05), 5)
    assert not torch.allclose(moved.encoder(inputs), encoder(inputs), atol=1e-3)
    kernel = moved.encoder[4].weight - encoder[4].weight
    assert torch.linalg.matrix_rank(kernel.flatten(1), atol=1e-6) <= 2


def test_a_fitted_head_is_the_linear_probe() -> None:
    encoder = _convnet().eval()
    network, data = _network(encoder)
    recipe = replace(RECIPE, trains="head", learning_rate=0.0, fitted_head=True)
    model = finetuning.fine_tune(Start("x", network.copy), data, network, recipe, 5)
    features = encoder(network.inputs(data.images)).detach()
    probe = SoftmaxRegression.fit(features, data.labels, 4, 0.01)
    assert torch.allclose(model(network.inputs(data.images)), probe.logits(features), atol=1e-3)


def _scrambled(features: Features) -> Features:
    """The same, with other true labels wherever the label was hidden, and other test labels."""
    hidden = features.visible_labels < 0
    labels = torch.where(hidden, (features.train_labels + 1) % CLASSES, features.train_labels)
    return replace(features, train_labels=labels)


def test_hidden_labels_and_test_labels_have_no_effect_on_fine_tuning() -> None:
    features = make_features()
    settings = {"epochs": 2, "head": True, "last": True, "lora": 2}
    result = measure("finetune", features, **settings)
    assert measure("finetune", _scrambled(features), **settings) == result
    other_truth = replace(features, test_labels=(features.test_labels + 1) % CLASSES)
    assert measure("finetune", other_truth, **settings).diagnostics == result.diagnostics
    assert set(result.cost) == {f"{name}_seconds" for name in ("finetune", "finetune_scratch", "finetune_head",
                                                              "finetune_last", "finetune_lora")}  # fmt: skip


def test_what_is_made_once_and_what_is_not_tried_move_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every candidate on every half, with new views and a new encoder each time."""
    features = make_features()
    result = measure("finetune", features, epochs=8)
    network, visible = features.network, features.visible_labels >= 0
    assert network is not None
    monkeypatch.setattr(finetuning, "KEPT_BYTES", 0)
    data = LabelledImages(network.train_images[visible], features.visible_labels[visible], CLASSES)
    name = seed("finetune", *features.seed_key)
    halves = probe._folds(data.labels.numpy(), seed("validation", *features.seed_key))
    assert len(halves) == 2
    for score, make in (("finetune", network.copy), ("finetune_scratch", network.initial)):

        def right(recipe: Recipe, parts: list[Tensor], make: Callable[[], nn.Module] = make) -> int:
            count = 0
            for held in parts:
                model = finetuning.fine_tune(Start("new", make), data.rows(~held), network, recipe, name)
                count += int((finetuning.predict(model, data.images[held], network) == data.labels[held]).sum())
            return count

        best = Recipe("all", 2, 0.003, 1.0, fitted_head=True, batch_size=64, weight_decay=0.01, rank=0)
        for key, values in (("learning_rate", (0.01, 0.001)), ("fitted_head", (False,)), ("layer_decay", (0.65,))):
            for candidate in [replace(best, **{key: value}) for value in values]:
                if right(candidate, halves) > right(best, halves):
                    best = candidate
        best = max((replace(best, epochs=epochs) for epochs in (8, 4)), key=lambda recipe: right(recipe, halves[:1]))
        chosen = {key: result.diagnostics[f"{score}_{key}"] for key in best.choices()}
        assert chosen == best.choices()
        model = finetuning.fine_tune(Start("new", make), data, network, best, name)
        found = accuracy(finetuning.predict(model, network.test_images, network), features.test_labels)
        assert result.scores[f"{score}_top1_labelled"] == found
    assert plugins.version("evaluation", "finetune") == "55a1cb85de"  # so records stay current


def test_each_training_starts_from_the_first_weights_and_statistics() -> None:
    """One encoder serves all of them; low-rank updates, which change its modules, get another."""
    network, data = _network(_convnet())
    start, inputs = Start("x", network.copy), network.inputs(data.images)
    for recipe in (
        RECIPE,
        replace(RECIPE, trains="last"),
        replace(RECIPE, trains="lora"),
        replace(RECIPE, trains="all"),
    ):
        found = finetuning.fine_tune(start, data, network, recipe, 5)(inputs)
        assert torch.equal(found, finetuning.fine_tune(Start("x", network.copy), data, network, recipe, 5)(inputs))
    assert start.encoder() is start.encoder()
    assert all(torch.equal(a, b) for a, b in zip(_weights(start.encoder()), _weights(network.encoder), strict=True))


def test_views_are_kept_for_the_next_training_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = _network(_convnet())
    rows = torch.arange(4)
    one = data.view(rows, network, 5, 0)
    made = one.clone()
    one.zero_()  # as an encoder might
    assert torch.equal(data.view(rows, network, 5, 0), made)
    assert torch.equal(network.augmented(data.images[:4], seed("finetune views", 5, 0)), made)
    assert not torch.equal(data.view(rows, network, 5, 1), made)
    monkeypatch.setattr(finetuning, "KEPT_BYTES", 2 * made.nbytes)
    data.view(rows, network, 5, 2)
    assert len(data.views) == 2


def test_hidden_labels_move_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """With them scrambled every network that is trained, also while choosing, is the same to the bit."""
    trained: list[dict[str, Tensor]] = []
    fine_tune = finetuning.fine_tune

    def watch(*given: Any) -> finetuning.Classifier:
        model = fine_tune(*given)
        trained.append(copy.deepcopy(model.state_dict()))
        return model

    monkeypatch.setattr(probe, "fine_tune", watch)
    features = make_features()
    for given in (features, _scrambled(features)):
        measure("finetune", given, epochs=2, scratch=False)
    one, other = trained[: len(trained) // 2], trained[len(trained) // 2 :]
    assert len(one) > 5
    for before, after in zip(one, other, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_with_one_label_in_a_class_fine_tuning_takes_the_first_of_each_choice() -> None:
    visible = torch.full((100,), -1)
    visible[:CLASSES] = torch.arange(CLASSES)
    result = measure("finetune", make_features(visible_labels=visible), epochs=2)
    assert result.diagnostics["finetune_learning_rate"] == 0.003
    assert result.diagnostics["finetune_epochs"] == 2
    assert "finetune_top1_labelled" in result.scores


def test_without_labels_nothing_is_fine_tuned() -> None:
    assert measure("finetune", make_features(visible_labels=torch.full((100,), -1))).scores == {}


def test_a_single_label_leaves_nothing_to_tell_apart() -> None:
    """Batch norm refuses a batch of one image, when everything else of the run is done."""
    one = torch.full((100,), -1)
    one[3] = 1
    assert measure("finetune", make_features(visible_labels=one)).scores == {}


def test_an_encoder_without_weights_has_no_last_block_and_no_low_rank_updates() -> None:
    network, data = _network(nn.Flatten())
    for trains, words in (
        ("last", "last needs an encoder with weights"),
        ("lora", "lora needs an encoder with linear"),
    ):
        with pytest.raises(InputError, match=words):
            finetuning.fine_tune(Start("x", network.copy), data, network, replace(RECIPE, trains=trains), 5)


# blocks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "count", "last"),
    [
        ("convnet", {"width": 4, "blocks": 3}, 3, "8"),
        ("resnet18", {}, 9, "layer4.1"),
        ("vit", {"layers": 3, "heads": 1, "head_width": 8}, 4, "encoder.layers.encoder_layer_2"),
        ("mlp", {"width": 8, "layers": 2}, 2, "4"),
    ],
)
def test_the_blocks_of_an_encoder_are_its_repeated_parts(
    name: str, settings: dict[str, int], count: int, last: str
) -> None:
    encoder = plugins.load("encoders", name)(**settings).build(3, 32)
    found = blocks(encoder)
    assert len(found) == count
    assert found[-1].modules[0] is encoder.get_submodule(last)
    held = [id(p) for block in found for p in block.parameters]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in encoder.parameters()}


def test_the_outputs_of_blocks_are_pooled_and_in_order() -> None:
    encoder = plugins.load("encoders", "resnet18")().build(3, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), outputs(encoder, 2) as collected:
        features = encoder(images)
    x = encoder.layer3(
        encoder.layer2(encoder.layer1(encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(images))))))
    )
    before = encoder.layer4[0](x)
    assert torch.allclose(collected[0], before.mean(dim=(2, 3)), atol=1e-5)
    assert torch.allclose(collected[1], features, atol=1e-5)
    vit = plugins.load("encoders", "vit")(layers=2, heads=1, head_width=8).build(3, 32).eval()
    with torch.no_grad(), outputs(vit, 1) as collected:
        assert torch.allclose(vit(images), vit.encoder.ln(collected[0][:, :8]), atol=1e-5)
    assert collected[0].shape == (2, 16)
    with outputs(vit, 1) as collected:
        pass
    vit(images)
    assert collected == []  # no hook is left


def test_the_linear_probe_of_several_blocks_sees_their_outputs_side_by_side() -> None:
    encoder = _convnet().eval()
    network, _ = _network(encoder)
    generator = torch.Generator().manual_seed(1)
    test_images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator, dtype=torch.uint8)
    train_images = torch.randint(0, 256, (100, 1, 8, 8), generator=generator, dtype=torch.uint8)
    features = make_features(network=replace(network, train_images=train_images, test_images=test_images))
    result = measure("linear_layers", features, blocks=2)
    assert result.diagnostics["linear_layers_width"] == 4 + 8
    expected = replace(features, train=_both(encoder, train_images), test=_both(encoder, test_images), memo={})
    linear = measure("linear", expected)
    assert result.scores["linear_layers_top1"] == linear.scores["linear_top1"]
    assert result.scores["linear_layers_top1_labelled"] == linear.scores["linear_top1_labelled"]


@torch.no_grad()
def _both(encoder: nn.Module, images: Tensor) -> Tensor:
    first = encoder[:4](images.float() / 255)
    return torch.cat([first.mean(dim=(2, 3)), encoder(images.float() / 255)], dim=1)


# the linear probe with augmentation ---------------------------------------------------------------------------------


def test_the_linear_probe_with_augmentation_is_sgd_on_new_views_each_epoch() -> None:
    """One head at the rate that was chosen, by a plain loop."""
    features = make_features()
    assert features.network is not None
    result = measure("linear_augmented", features, epochs=3, batch_size=32, weight_decay=0.01)
    lr = result.diagnostics["linear_augmented_learning_rate"]
    mean, scale = features.train.mean(dim=0), features.train.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-6 * (1 + mean.abs()), scale, torch.inf)
    w, b = torch.zeros(12, CLASSES), torch.zeros(CLASSES)
    vw, vb, step, y = torch.zeros_like(w), torch.zeros_like(b), 0, features.train_labels
    for epoch in range(3):
        key = seed("linear_augmented views", *features.seed_key, epoch, 0)
        with torch.no_grad():
            x = (
                features.network.encoder(features.network.augmented(features.network.train_images, key)) - mean
            ) / scale
        order = torch.randperm(
            100, generator=torch.Generator().manual_seed(seed("linear_augmented order", *features.seed_key, epoch))
        )
        for at in (0, 32, 64):
            rows = order[at : at + 32]
            wg, bg = w.clone().requires_grad_(), b.clone().requires_grad_()
            F.cross_entropy(x[rows] @ wg + bg, y[rows]).backward()
            assert wg.grad is not None
            assert bg.grad is not None
            vw, vb = 0.9 * vw + wg.grad + 0.01 * w, 0.9 * vb + bg.grad
            factor = (1 + math.cos(math.pi * step / 9)) / 2
            w, b, step = w - lr * factor * vw, b - lr * factor * vb, step + 1
    predictions = (((features.test - mean) / scale) @ w + b).argmax(dim=1)
    expected = float((predictions == features.test_labels).double().mean())
    assert result.scores["linear_augmented_top1"] == pytest.approx(expected, abs=1 / 60 + 1e-9)


def test_a_variant_that_is_switched_off_gives_no_score_to_order_by() -> None:
    settings = {"scratch": True, "head": False, "last": True, "lora": 0}
    expected = {f"{name}_top1_labelled" for name in ("finetune", "finetune_scratch", "finetune_last")}
    assert score_names("finetune", settings) == expected
