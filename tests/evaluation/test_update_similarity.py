"""Does training go where one gradient step goes? Against updates that are known, and without anything to compare."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_semisup.evaluation import Features
from cl_semisup.report.updates import update_cosine
from tests.helpers.probes import Encoder, make_features, measure


def _features(trained: nn.Module) -> Features:
    """A run whose initial weights are those of `Encoder`, and whose network after training is `trained`."""
    features = make_features()
    assert features.network is not None

    def of(encoder: nn.Module) -> Any:
        return torch.no_grad()(lambda images: encoder(images.float() / 255))

    network = replace(features.network, encoder=trained, features=of(trained), untrained=of(Encoder()))
    return replace(features, network=network)


def _stepped(rate: float) -> nn.Module:
    """`Encoder` after a step of descent on the softmax over class means, whose gradient autograd takes of loops."""
    encoder, features = Encoder(), make_features()
    assert features.network is not None
    rows, classes = [], []
    for image, label in zip(features.network.train_images, features.visible_labels.tolist(), strict=True):
        if label >= 0:
            row = encoder(image[None].float() / 255)[0]
            rows.append(row / row.norm())
            classes.append(label)
    centres = []
    for c in range(5):
        total = torch.stack([r.detach() for r, y in zip(rows, classes, strict=True) if y == c]).sum(dim=0)
        centres.append(total / total.norm())
    terms = []
    for row, label in zip(rows, classes, strict=True):
        logits = torch.stack([row @ centre / 0.1 for centre in centres])
        terms.append(logits.exp().sum().log() - logits[label])
    (gradient,) = torch.autograd.grad(torch.stack(terms).mean(), encoder.map.weight)
    with torch.no_grad():
        encoder.map.weight -= rate * gradient / gradient.norm() * encoder.map.weight.norm()
    return encoder


def test_a_training_that_is_the_gradient_step_has_similarity_one_and_its_opposite_minus_one() -> None:
    forward, backward = (measure("update_similarity", _features(_stepped(rate))) for rate in (0.01, -0.01))
    assert forward.diagnostics["update_similarity"] == pytest.approx(1, abs=1e-3)
    assert backward.diagnostics["update_similarity"] == pytest.approx(-1, abs=0.05)
    baseline = forward.diagnostics["update_similarity_untrained"]
    assert baseline == backward.diagnostics["update_similarity_untrained"]
    assert 0.01 < abs(baseline) < 0.3  # it has learnt nothing, and yet is not at 0
    assert abs(forward.diagnostics["update_similarity_random"]) < 0.2
    assert update_cosine(forward.curves, backward.curves) == pytest.approx(-1, abs=0.05)
    assert update_cosine(forward.curves, forward.curves) == pytest.approx(1, abs=1e-9)


def test_stored_rows_are_updates_of_unit_features() -> None:
    trained = _stepped(0.5)
    features = _features(trained)
    found = measure("update_similarity", features, images=30)
    assert features.network is not None
    images: Tensor = features.network.test_images[torch.linspace(0, 59, 30).round().long()][:6].float() / 255
    with torch.no_grad():
        change = F.normalize(trained(images), dim=1) - F.normalize(Encoder()(images), dim=1)
    wanted = 1000 * change / change.norm(dim=1, keepdim=True)
    torch.testing.assert_close(torch.tensor(found.curves["updates"]).float(), wanted.round(), atol=1, rtol=0)


def test_without_a_label_there_is_no_step_and_a_network_that_has_not_moved_has_no_direction() -> None:
    features = _features(copy.deepcopy(Encoder()))
    unlabelled = replace(features, visible_labels=torch.full_like(features.visible_labels, -1))
    found = measure("update_similarity", unlabelled)
    assert found.diagnostics == {}
    assert not torch.tensor(found.curves["updates"]).any()
    assert measure("update_similarity", features).diagnostics["update_similarity"] == 0
    assert update_cosine(found.curves, found.curves) == 0


def test_a_class_without_visible_labels_is_not_in_the_gradient_step() -> None:
    features = _features(_stepped(0.01))
    more = measure("update_similarity", replace(features, classes=features.classes + 20)).diagnostics
    assert more == pytest.approx(measure("update_similarity", features).diagnostics, abs=1e-6)


@pytest.mark.parametrize("rows", [None, [], [[]], [[1], [1, 2]], [[1.5]], [["a"]], [[10**7]], {"a": 1}, [[True]]])
def test_what_a_stranger_wrote_as_updates_is_no_number(rows: object) -> None:
    assert math.isnan(update_cosine({"updates": rows}, {"updates": [[1, 2]]}))


def test_updates_of_other_shapes_are_not_compared() -> None:
    assert math.isnan(update_cosine({"updates": [[1, 2]]}, {"updates": [[1, 2, 3]]}))
    assert update_cosine({"updates": [[3, 4], [1, 0]]}, {"updates": [[4, 3], [0, 5]]}) == pytest.approx(0.48)
