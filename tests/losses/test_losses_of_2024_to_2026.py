"""Recent baselines: limits that are known, and what those with memory or moving averages remember over steps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contract import Batch, extra_inputs
from cl_semisup.errors import InputError
from cl_semisup.losses import requirements_of
from tests.oracles import flexmatch, freematch, nnclr, patch_distillation, semisupcon, softmatch, visreg

N, CLASSES, IMAGES = 6, 3, 12


def _logits(step: int, sharp: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    weak, strong = (sharp * torch.randn(N, CLASSES, generator=generator, dtype=torch.float64) for _ in range(2))
    return weak, strong


def _build(name: str, **params: Any) -> Any:
    return losses.build(name, dim=5, classes=CLASSES, images=IMAGES, **params).double()


def test_sincere_without_labels_is_nt_xent() -> None:
    batch = Batch.draw()
    value = losses.build("sincere", temperature=0.5)(batch.z1, batch.z2)
    assert float(value) == pytest.approx(float(losses.build("nt_xent", temperature=0.5)(batch.z1, batch.z2)))


def test_more_classmates_at_one_point_cost_nothing_under_sincere_and_something_under_supcon() -> None:
    values: dict[str, list[float]] = {"sincere": [], "supcon": []}
    for classmates in (2, 4):
        z = torch.eye(2, dtype=torch.float64)[[0] * classmates + [1]]
        labels = torch.tensor([0] * classmates + [1])
        for name, found in values.items():
            found.append(float(losses.build(name, temperature=0.5).per_image(z, z, labels)[0]))
    assert values["sincere"][0] == pytest.approx(values["sincere"][1])
    assert values["supcon"][1] > values["supcon"][0] + 0.5


def test_equal_rows_give_the_known_value_of_collapse() -> None:
    rows = torch.ones(N, 5, dtype=torch.float64)
    labels = torch.arange(N) % CLASSES
    assert float(_build("ntce")(rows, rows, labels).detach()) == pytest.approx(math.log(2 * N))
    assert float(losses.build("sincere")(rows, rows)) == pytest.approx(math.log(2 * N - 1))
    assert float(losses.build("directclr")(rows, rows, features=(rows, rows))) == pytest.approx(math.log(N))
    assert float(losses.build("vrn", base="none", weight=1.0, images=11)(rows, rows)) == pytest.approx(1.1**2)


def test_vrn_is_zero_where_all_points_are_spread_as_far_as_possible() -> None:
    corners = torch.eye(4, dtype=torch.float64) - 0.25
    assert float(losses.build("vrn", base="none", images=4)(corners, corners)) == pytest.approx(0, abs=1e-12)


def test_flexmatch_lowers_the_threshold_of_classes_that_are_learnt_less() -> None:
    loss = _build("flexmatch", threshold=0.6).train()
    selected = [-1] * IMAGES
    z = torch.zeros(N, 5, dtype=torch.float64)
    for step in range(5):
        weak, strong = _logits(step)
        index = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(step))[:N]
        expected = flexmatch.oracle(
            list(z), list(z), None, logits=(weak, strong), index=index, threshold=0.6, selected=selected
        )
        value = loss(z, z, None, logits=(weak, strong), index=index)
        assert float(value) == pytest.approx(float(expected), abs=1e-6), step
        for row, image in zip(weak.softmax(dim=1), index.tolist(), strict=True):
            if float(row.max()) >= 0.6:
                selected[image] = int(row.argmax())
        assert loss.selected.tolist() == selected
    assert len(set(selected)) > 2


@pytest.mark.parametrize(("name", "module"), [("freematch", freematch), ("softmatch", softmatch)])
def test_moving_averages_follow_the_steps(name: str, module: Any) -> None:
    loss = _build(name, memory=0.7).train()
    even = float(torch.tensor(1 / CLASSES))
    averages = {
        "freematch": lambda: freematch.Averages(even, [even] * CLASSES, [even] * CLASSES),
        "softmatch": lambda: softmatch.Averages(even, 1.0, None),
    }[name]()
    z = torch.zeros(N, 5, dtype=torch.float64)
    labels = [0, -1, 1, -1, -1, 2]
    for step in range(5):
        logits = _logits(step, sharp=1.0)
        expected = module.oracle(list(z), list(z), labels, logits=logits, memory=0.7, averages=averages)
        value = loss(z, z, torch.tensor(labels), logits=logits)
        assert float(value) == pytest.approx(float(expected), abs=1e-9), step
    before = {key: buffer.clone() for key, buffer in loss.state_dict().items()}
    with torch.no_grad():
        loss(z, z, None, logits=_logits(9))
    assert all(torch.equal(before[key], buffer) for key, buffer in loss.state_dict().items())


def test_softmatch_aligns_predictions_for_the_weights_and_not_for_the_pseudo_labels() -> None:
    loss, z = _build("softmatch", memory=0.0).train(), torch.zeros(4, 5, dtype=torch.float64)
    weak = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [2.0, 0, 0], [0.2, 0, 0]], dtype=torch.float64)
    strong = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    loss(z, z, None, logits=(weak, strong)).backward()
    aligned = weak.softmax(dim=1) / weak.softmax(dim=1).mean(dim=0)
    assert aligned[3].argmax() != weak[3].argmax()  # the last image's class would change
    assert (strong.grad.argmin(dim=1) == 0).all()  # all are pulled to the class that the network predicts


@pytest.mark.parametrize("queue", [6, 3])
def test_nnclr_finds_its_positives_among_rows_of_earlier_batches(queue: int) -> None:
    loss = _build("nnclr", queue=queue, hidden=6).train()
    bank, oldest = [row.clone() for row in loss.queue.rows], 0
    for step in range(4):
        batch = Batch.draw(images=4, dim=5, seed=step)
        views = (batch.z1.requires_grad_(), batch.z2.requires_grad_())
        value = loss(*views)
        expected = nnclr.oracle(*map(list, views), None, loss=loss, bank=bank, queue=queue, hidden=6)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
        for mine, theirs in zip(torch.autograd.grad(value, views), torch.autograd.grad(expected, views), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
        for row in batch.z1.detach():
            bank[oldest] = row / row.square().sum().sqrt()
            oldest = (oldest + 1) % queue


def test_targets_go_to_the_classes_whose_directions_are_nearest() -> None:
    loss = _build("targeted_supcon", memory=0.0).train()
    order = torch.tensor([2, 0, 1])
    rows = loss.targets[order].repeat(2, 1) + 0.01 * torch.randn(6, 5, dtype=torch.float64)
    loss(rows, rows, torch.arange(6) % CLASSES)
    assert torch.equal(loss.prototypes, loss.targets[order])
    with pytest.raises(InputError, match="a simplex of C points needs at least C - 1 dimensions"):
        losses.build("targeted_supcon", dim=3, classes=5)


def test_visreg_is_small_for_gaussian_rows_and_repels_collapsed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    loss = losses.build("visreg", weight=1.0)
    gaussian = torch.randn(2000, 8, generator=generator, dtype=torch.float64)
    assert float(loss(gaussian, gaussian)) < 0.01
    for spread in (1e-2, 1e-4, 1e-6):
        small = (spread * gaussian[:64]).requires_grad_()
        loss(small, small).backward()
        assert small.grad is not None
        assert float(small.grad.norm()) > 0.05  # it does not fade with the spread


@pytest.mark.parametrize("images", [2, 6, 10])
def test_visreg_equals_plain_loops_where_quantiles_are_no_binary_fractions(images: int) -> None:
    batch, loss = Batch.draw(images=images, dim=5), losses.build("visreg", directions=3)
    expected = visreg.oracle(list(batch.z1), list(batch.z2), None, loss=loss, progress=0.5, directions=3)
    value = loss(batch.z1, batch.z2, progress=0.5)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("params", semisupcon.CASES)
def test_prototypes_of_semisupcon_have_the_gradient_of_plain_loops(params: dict[str, float]) -> None:
    batch = Batch.draw(images=N, dim=5, classes=CLASSES)
    assert batch.labels is not None
    loss, views = _build("semisupcon", **params), (batch.z1, batch.z2, batch.z1 - batch.z2)
    value = loss(batch.z1, batch.z2, batch.labels, projections=views)
    expected = semisupcon.oracle(
        list(batch.z1), list(batch.z2), batch.labels.tolist(), loss=loss, projections=views, **params
    )
    (mine,), (theirs,) = (torch.autograd.grad(one, loss.prototypes) for one in (value, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_semisupcon_without_prototypes_and_labels_that_is_never_sure_is_simclr() -> None:
    """As anchors they weigh nothing; as keys they stay, so they are moved out of the way."""
    batch = Batch.draw(images=N, dim=5)
    loss = _build("semisupcon", threshold=1.0, guess_temperature=1.0)
    with torch.no_grad():
        loss.prototypes.copy_(torch.eye(5, dtype=torch.float64)[:CLASSES])
    z1, z2 = (torch.cat([torch.zeros(N, 3, dtype=torch.float64), z[:, 3:]], dim=1) for z in (batch.z1, batch.z2))
    value = float(loss(z1, z2, None, projections=(z1, z1, z2)).detach())
    rows = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    logits = (rows @ rows.T / 0.1).fill_diagonal_(-torch.inf)
    keys = torch.cat([logits, torch.zeros(2 * N, CLASSES, dtype=torch.float64)], dim=1).logsumexp(dim=1)
    own = torch.cat([logits.diagonal(N), logits.diagonal(-N)])
    assert value == pytest.approx(float((keys - own).mean()))


@pytest.mark.parametrize("penalty", ["soft", "spectral"])
def test_orthogonality_moves_weights_as_finite_differences_say_and_spares_isometries(penalty: str) -> None:
    def value(*weights: Tensor) -> Tensor:
        rows = torch.eye(4, dtype=torch.float64)
        built = losses.build("orthogonality", base="none", weight=0.5, penalty=penalty)
        found: Tensor = built(rows, rows, weights=weights)
        return found

    generator = torch.Generator().manual_seed(2)
    tall = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    wide = torch.randn(2, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (tall, wide))
    frame = torch.linalg.qr(tall.detach()).Q
    assert float(value(frame, frame.T)) == pytest.approx(0, abs=1e-12)
    assert float(value(2 * frame)) == pytest.approx(0.5 * (27 if penalty == "soft" else 3))


@pytest.mark.parametrize(
    ("classes", "dim", "largest"), [(2, 8, -1.0), (16, 8, 0.0), (40, 16, 0.5), (300, 16, 0.5), (12, 5, 0.5)]
)
def test_codewords_keep_the_distance_of_their_code(classes: int, dim: int, largest: float) -> None:
    codes = losses.build("coded_prototypes", dim=dim, classes=classes).prototypes.double()  # type: ignore[attr-defined]
    cosines = codes @ codes.T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(classes, dtype=torch.float64))
    assert float((cosines - 2 * torch.eye(classes)).max()) == pytest.approx(largest)


def test_codewords_are_those_of_the_authors_in_their_order() -> None:
    """RM(1, 2) by hand: the generators 1111, 0011 and 0101, added modulo 2 by the binary digits of the class."""
    codes = losses.build("coded_prototypes", dim=4, classes=8).prototypes  # type: ignore[attr-defined]
    bits = ((codes * 2 + 1) / 2).int().tolist()
    words = ["0000", "1111", "0011", "1100", "0101", "1010", "0110", "1001"]
    assert ["".join(map(str, word)) for word in bits] == words


def test_more_classes_than_codewords_are_refused() -> None:
    with pytest.raises(InputError, match=r"a width of 2 has 4 codewords, one a class. Got classes=5."):
        losses.build("coded_prototypes", dim=2, classes=5)


def test_patches_are_boxes_in_the_view_of_the_area_that_was_asked_for() -> None:
    loss = _build("patch_distillation", base="none", smallest=0.3, largest=0.75, boxes=3)
    boxes = loss._boxes(500, 0.25)
    sides = boxes[..., 2:] - boxes[..., :2]
    area, ratio = sides.prod(dim=-1), sides[..., 0] / sides[..., 1]
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-6
    assert 0.3 - 1e-6 < area.min() < 0.31
    assert 0.74 < area.max() < 0.75 + 1e-6
    assert 0.74 < ratio.min() < ratio.max() < 1.34
    assert torch.equal(boxes, loss._boxes(500, 0.25))
    assert not torch.equal(boxes, loss._boxes(500, 0.5))


def test_patch_distillation_remembers_keys_of_second_views() -> None:
    batch = Batch.draw(images=N, dim=5)
    loss = _build("patch_distillation", base="nt_xent", queue=8, boxes=1).train()
    extras = extra_inputs(requirements_of(loss), batch, torch.arange(N), CLASSES)
    loss(batch.z1.clone().requires_grad_(), batch.z2, None, **extras)
    value = loss(batch.z1, batch.z2, None, **extras)
    expected = patch_distillation.oracle(
        list(batch.z1), list(batch.z2), None, loss=loss, base="nt_xent", remembered=list(batch.z2), **extras
    )
    assert float(value) == pytest.approx(float(expected))
    assert float(value) > float(losses.build("nt_xent")(batch.z1, batch.z2))


def test_a_smallest_patch_above_the_largest_is_refused() -> None:
    with pytest.raises(InputError, match=r"smallest must not exceed largest. Got 0.5 and 0.2. Lower it."):
        losses.build("patch_distillation", dim=4, smallest=0.5, largest=0.2)
