"""Losses with matrices, queues, predictors or prototypes: golden values, limits, and what they remember."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from cl_semisup import losses
from cl_semisup.contract import Batch, extra_inputs
from cl_semisup.errors import InputError
from cl_semisup.losses import requirements_of
from tests.helpers.embeddings import golden_views

B, D = 6, 4
FIRST = ["barlow_twins", "byol", "dino", "koleo", "lejepa", "mmcr", "moco_v2"]
NAMES = [*FIRST, "moco_v3", "siglip", "simsiam", "swav", "tico", "w_mse"]


def _build(name: str, dim: int = D, **params: Any) -> Any:
    loss = losses.build(name, dim=dim, classes=3, **params)
    return loss.double() if isinstance(loss, nn.Module) else loss


def _without_predictor(name: str) -> Any:
    loss = _build(name)
    loss.predictor = nn.Identity()
    return loss


def test_golden_values() -> None:
    """Computed once from the equations with plain numpy."""
    z1, z2 = golden_views()
    found = {
        "barlow_twins": _build("barlow_twins", redundancy=0.0051)(z1, z2),
        "mmcr": _build("mmcr", lmda=0.0)(z1, z2),
        "tico": _build("tico", momentum_encoder=False)(z1, z2),
        "siglip": _build("siglip")(z1, z2),
        "simsiam": _without_predictor("simsiam")(z1, z2),
        "byol": _without_predictor("byol")(z1, z2) / 2,  # one of the two directions
    }
    golden = {
        "barlow_twins": 0.02008094,
        "mmcr": -4.56318038,
        "tico": 0.32152309,
        "siglip": 0.95737939,
        "simsiam": -0.96097355,
        "byol": 0.07805289,
    }
    assert {name: float(value.detach()) for name, value in found.items()} == pytest.approx(golden, abs=1e-6)


def test_equal_rows_give_the_known_value_of_collapse() -> None:
    rows = torch.ones(B, D, dtype=torch.float64)
    assert float(_build("mmcr")(rows, rows)) == pytest.approx(-math.sqrt(B))
    assert float(_build("barlow_twins")(rows, rows)) == pytest.approx(D)
    assert float(_build("siglip")(rows, rows).detach()) == pytest.approx(B * math.log(2), rel=1e-5)
    assert float(_without_predictor("simsiam")(rows, rows)) == pytest.approx(-1)
    assert float(_without_predictor("byol")(rows, rows)) == pytest.approx(0)
    # every key is as near as any other: the logarithm of their number
    assert float(_without_predictor("moco_v3")(rows, rows)) == pytest.approx(2 * 2 * 0.2 * math.log(B))
    # one prototype is as near as it was to every row: codes are uniform, and so is SwAV's transport
    assert float(_build("swav", prototypes=5, temperature=1e6)(rows, rows).detach()) == pytest.approx(math.log(5))


def test_tico_ends_at_rho_when_collapsed() -> None:
    rows = torch.ones(B, D, dtype=torch.float64, requires_grad=True)
    loss = _build("tico", rho=3.0, beta=0.5, momentum_encoder=False)
    values = [float(loss(rows, rows).detach()) for _ in range(40)]
    assert values[0] == pytest.approx(3 * 0.5)
    assert values[-1] == pytest.approx(3)


def test_w_mse_does_not_see_what_whitening_removes() -> None:
    """A shift and a lower triangular map of either view: the Cholesky factor takes them up whole."""
    batch = Batch.draw(images=40, dim=D)
    generator = torch.Generator().manual_seed(1)
    turn = torch.randn(D, D, generator=generator, dtype=torch.float64).tril(-1) + 3 * torch.eye(D, dtype=torch.float64)
    loss = _build("w_mse", eps=1e-12)
    same = loss(batch.z1 @ turn.T + 5, batch.z2)
    assert float(same) == pytest.approx(float(loss(batch.z1, batch.z2)), abs=1e-8)


def test_w_mse_splits_a_batch_that_is_no_multiple_of_the_group() -> None:
    batch = Batch.draw(images=50, dim=D)
    in_two = sum(float(_build("w_mse")(batch.z1[r], batch.z2[r])) for r in (slice(0, 25), slice(25, 50))) / 2
    assert float(_build("w_mse", group=20)(batch.z1, batch.z2)) == pytest.approx(in_two)


def test_mmcr_of_one_view_pair_is_the_sum_of_singular_values() -> None:
    z1, z2 = golden_views()
    by_svd = torch.linalg.svdvals(torch.stack([z1, z2], dim=1)).sum(dim=1).mean()
    both = [_build("mmcr", lmda=lmda, normalize=False)(z1, z2) for lmda in (1.0, 0.0)]
    assert float(both[0] - both[1]) == pytest.approx(float(by_svd))


def test_sigreg_is_small_for_a_gaussian_and_known_for_a_point() -> None:
    draws = torch.randn(20, 200, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = _build("lejepa", dim=16, weight=1.0, directions=32, points=33, reach=8.0)
    # The variance of a mean times N: the integral of (1 - exp(-k^2)) exp(-k^2/2)
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
    assert float(torch.stack([loss(z, z) for z in draws]).mean()) == pytest.approx(expected, rel=0.1)
    assert float(loss(3 * draws[0], 3 * draws[0])) > 20 * expected
    # All at 0: N times the integral of (1 - exp(-k^2/2))^2 exp(-k^2/2), by Gaussian integrals
    point = math.sqrt(2 * math.pi) * (1 - 2 / math.sqrt(2) + 1 / math.sqrt(3))
    zeros = torch.zeros(B, 16, dtype=torch.float64)
    assert float(loss(zeros, zeros)) == pytest.approx(B * point, rel=1e-6)


def test_lejepa_draws_other_directions_in_every_step() -> None:
    z1, z2 = golden_views()
    loss = _build("lejepa", directions=8)
    first, again, later = (loss.directions(z1, progress) for progress in (0.25, 0.25, 0.5))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(8, dtype=torch.float64))
    assert float(loss(z1, z2, progress=0.25)) != float(loss(z1, z2, progress=0.5))


def test_koleo_without_weight_is_its_base() -> None:
    z1, z2 = golden_views()
    plain = losses.build("nt_xent")(z1, z2)
    assert float(_build("koleo", weight=0.0)(z1, z2)) == pytest.approx(float(plain))
    assert float(_build("koleo", weight=1.0)(z1, z2)) != pytest.approx(float(plain))


def test_koleo_asks_for_what_its_base_asks() -> None:
    with_byol = requirements_of(_build("koleo", base="byol"))
    assert with_byol.needs == ("momentum_projections", "features")
    assert requirements_of(_build("koleo", base="supcon")).labels
    assert requirements_of(_build("koleo", base="none", of="projections")).needs == ()


def test_moco_replaces_the_oldest_keys() -> None:
    loss = _build("moco_v2", queue=8)
    z1, z2 = (z.requires_grad_() for z in golden_views())
    first = loss.queue.clone()
    loss(z1, z2)
    keys = nn.functional.normalize(z2.detach(), dim=1)
    torch.testing.assert_close(loss.queue[:6], keys)
    assert torch.equal(loss.queue[6:], first[6:])
    loss(z2, z1)
    keys_after = nn.functional.normalize(z1.detach(), dim=1)
    torch.testing.assert_close(
        loss.queue, torch.cat([keys_after[2:], keys[4:], keys_after[:2]])[[0, 1, 2, 3, 4, 5, 6, 7]]
    )
    assert int(loss.oldest) == 4


def test_swav_codes_are_rows_of_one_and_even_columns() -> None:
    loss = _build("swav", prototypes=3, iterations=200, sharpness=0.5)
    scores = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes = loss._codes(scores)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((3,), 4.0, dtype=torch.float64))


def test_swav_queue_holds_the_latest_first() -> None:
    loss = _build("swav", prototypes=3, queue=8)
    z1, z2 = (z.requires_grad_() for z in golden_views())
    loss(z1, z2)
    loss(z2, z1)
    unit1, unit2 = (nn.functional.normalize(z.detach(), dim=1) for z in (z1, z2))
    torch.testing.assert_close(loss.queue[0], torch.cat([unit2, unit1[:2]]))
    torch.testing.assert_close(loss.queue[1], torch.cat([unit1, unit2[:2]]))


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_frozen_prototypes_take_no_gradient(name: str) -> None:
    z1, z2 = (z.requires_grad_() for z in golden_views())
    for epoch, frozen in ((0, True), (1, False)):
        loss = _build(name, prototypes=5, frozen_epochs=1)
        loss(z1, z2, epoch=epoch).backward()
        assert (loss.prototypes.grad is None) == frozen


def test_dino_follows_its_prototypes_and_its_centre() -> None:
    loss = _build("dino", prototypes=5, momentum=0.9, centre_momentum=0.8)
    z1, z2 = (z.requires_grad_() for z in golden_views())
    first = loss.prototypes.detach().clone()
    with torch.no_grad():
        loss.prototypes.mul_(2)
    loss(z1, z2, momentum_projections=(z1.detach(), z2.detach()), progress=0.0)
    torch.testing.assert_close(loss.slow_prototypes, 1.1 * first)
    unit = nn.functional.normalize(torch.cat([z1, z2]).detach(), dim=1)
    answers = unit @ nn.functional.normalize(first, dim=1).T
    torch.testing.assert_close(loss.centre, 0.2 * answers.mean(dim=0))


@pytest.mark.parametrize("name", ["tico", "moco_v2", "swav", "dino"])
def test_memory_stays_as_it_is_outside_of_training(name: str) -> None:
    batch = Batch.draw(dim=D)
    extras = lambda loss: extra_inputs(requirements_of(loss), batch, torch.arange(len(batch.z1)), 3)  # noqa: E731
    loss = _build(name, **({"queue": 8} if name in ("swav", "moco_v2") else {}))
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    with torch.no_grad():
        loss(batch.z1, batch.z2, **extras(loss))
    loss.eval()
    loss(batch.z1, batch.z2, **extras(loss))
    assert all(torch.equal(before[key], value) for key, value in loss.state_dict().items())
    loss.train()
    loss(batch.z1, batch.z2, **extras(loss))
    assert not all(torch.equal(before[key], value) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_no_loss_touches_the_global_generator(name: str) -> None:
    batch = Batch.draw(dim=D, classes=3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loss = _build(name)
    loss(batch.z1, batch.z2, batch.labels, **extra_inputs(requirements_of(loss), batch, torch.arange(len(batch.z1)), 3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["byol", "simsiam", "moco_v2", "moco_v3", "swav", "dino"])
def test_the_seed_fixes_what_is_drawn(name: str) -> None:
    built: list[Any] = [losses.build(name, dim=D, classes=3, seed=seed) for seed in (1, 1, 2)]
    one, same, other = (loss.state_dict() for loss in built)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["byol", "simsiam", "moco_v2", "moco_v3", "swav", "dino", "tico"])
def test_a_loss_with_matrices_needs_the_width(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: needs dim, the width of the projections. Got dim=None. Give it.$"):
        losses.build(name)


def test_the_predictor_keeps_batch_norm_of_a_single_image_finite() -> None:
    one = torch.randn(1, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = losses.build("simsiam", dim=D)
    loss(one, one.detach()).backward()
    assert one.grad is not None
    assert bool(torch.isfinite(one.grad).all())


def test_siglip_learns_its_scale_and_its_bias() -> None:
    z1, z2 = golden_views()
    loss = _build("siglip")
    loss(z1, z2).backward()
    assert all(p.ndim == 0 and float(p.grad.abs()) > 0 for p in loss.parameters())  # scalars: no weight decay


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_is_not_finite_shows_in_the_loss(name: str) -> None:
    """A diverged run shows in its loss: no exception, and no finite value."""
    batch = Batch.draw(dim=D)
    batch.z1[3, 1] = torch.nan
    loss = _build(name)
    value = loss(batch.z1, batch.z2, None, **extra_inputs(requirements_of(loss), batch, torch.arange(len(batch.z1)), 3))
    assert not bool(torch.isfinite(value))
