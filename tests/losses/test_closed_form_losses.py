"""Closed-form self-supervised losses against numbers computed once, from the papers' equations, with plain numpy."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.errors import InputError
from cl_semisup.losses import requirements_of
from cl_semisup.losses.lorac import nuclear_norm
from tests.helpers.embeddings import golden_views

Z1, Z2 = golden_views()
FULL, SEMI = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 1, -1, 2, -1])

GOLDEN = [
    ("nt_xent", {"temperature": 0.5}, None, 0.94720011),
    ("nt_xent", {"temperature": 0.1}, None, 0.09106307),
    ("dcl", {"temperature": 0.1}, None, -4.38506995),
    ("dclw", {"temperature": 0.1, "sigma": 0.5}, None, -4.36335600),
    ("nscl", {"temperature": 0.5}, FULL, 0.14103732),
    ("nscl", {"temperature": 0.5, "positive_in_denominator": True}, FULL, 0.77319468),
    ("nscl", {"temperature": 0.5}, SEMI, 0.41078799),
    ("kcl", {"kernel": "gaussian", "t": 2.0, "gamma": 16.0}, None, -0.46574042),
    ("align_uniform", {"align_weight": 1.0, "uniform_weight": 0.0}, None, 0.07805289),
    ("align_uniform", {"align_weight": 0.0, "uniform_weight": 1.0}, None, -3.24580852),
    ("sgeg", {"weight": 0.1, "eps": 1e-8}, None, -3.91404339),
    ("cacr", {"views": 2}, None, -1.55599717),
    ("cacr", {"views": 2, "detach_weights": True}, None, -1.55599717),
]


@pytest.mark.parametrize(("name", "params", "labels", "expected"), GOLDEN)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_of_a_fixed_batch(
    name: str, params: dict[str, Any], labels: Tensor | None, expected: float, dtype: torch.dtype
) -> None:
    value = losses.build(name, **params)(Z1.to(dtype), Z2.to(dtype), labels)
    assert float(value) == pytest.approx(expected, abs=1e-6 if dtype == torch.float64 else 1e-4)


def test_spectral_of_raw_and_of_unit_rows() -> None:
    bound = 1e4  # no row is that long, so the rows stay as they are; the loss is divided by the bound
    raw = bound * losses.build("spectral", max_squared_norm=bound)(Z1, Z2)
    assert float(raw) == pytest.approx(-2.46278385, abs=1e-6)
    u, v = torch.nn.functional.normalize(Z1), torch.nn.functional.normalize(Z2)
    assert float(losses.build("spectral")(u, v)) == pytest.approx(-1.69373370, abs=1e-6)


def test_low_rank_prior_of_two_views() -> None:
    stack = torch.stack([torch.nn.functional.normalize(Z1), torch.nn.functional.normalize(Z2)])
    assert float(nuclear_norm(stack).mean()) == pytest.approx(1.57680987, abs=1e-6)


def test_one_sided_info_nce_is_the_cross_view_loss_without_labels() -> None:
    one, other = (losses.build(name, temperature=0.3)(Z1, Z2) for name in ("info_nce", "supcon_in"))
    torch.testing.assert_close(one, other)


def test_weights_of_dclw_vanish_with_a_large_sigma() -> None:
    torch.testing.assert_close(losses.build("dclw", sigma=1e9)(Z1, Z2), losses.build("dcl")(Z1, Z2))


def test_weights_of_dclw_favour_pairs_that_are_far_apart() -> None:
    """With one pair orthogonal and one equal, that loss pulls harder on the orthogonal pair than DCL does."""
    z1 = torch.eye(4, dtype=torch.float64)[:2].clone().requires_grad_()
    z2 = torch.eye(4, dtype=torch.float64)[[2, 1]]
    pulls = [torch.autograd.grad(losses.build(name)(z1, z2), z1)[0][0] @ z2[0] for name in ("dclw", "dcl")]
    assert float(pulls[0]) < float(pulls[1]) < 0


def test_a_kernel_parameter_that_a_kernel_cannot_have_is_refused() -> None:
    losses.build("kcl", kernel="riesz", t=-1.0)
    with pytest.raises(InputError, match=r"kcl: t must be above 0 for kernel gaussian\. Got -1\.0\. Change it\."):
        losses.build("kcl", t=-1.0)
    with pytest.raises(InputError, match=r"kcl: t must not be 0\. Got 0\.0\. Change it\."):
        losses.build("kcl", kernel="riesz", t=0.0)


def test_attraction_weighs_the_farther_of_two_positives_more() -> None:
    loss = losses.build("cacr", repulsion_weight=0.0, positive_sharpness=2.0)
    equal = losses.build("cacr", repulsion_weight=0.0, positive_sharpness=0.0)
    views = (Z1, Z2, -Z1 + Z2)
    assert float(loss(Z1, Z2, projections=views)) > float(equal(Z1, Z2, projections=views))


def test_number_of_views_is_what_the_trainer_is_asked_for() -> None:
    for name in ("cacr", "lorac"):
        assert requirements_of(losses.build(name, dim=4, classes=3, views=5)).views == ("full",) * 5


def test_lorac_remembers_the_newest_keys_in_training_only() -> None:
    loss = losses.build("lorac", dim=4, classes=3, memory=8)
    assert isinstance(loss, torch.nn.Module)
    before = loss.memory.clone()
    needs = {"projections": (Z1, Z2, Z1), "momentum_projections": (Z2, Z1, Z1), "progress": 0.0}
    with torch.no_grad():
        loss(Z1, Z2, **needs)
    loss.eval()(Z1, Z2, **needs)
    torch.testing.assert_close(loss.memory, before)
    loss.train()(Z1, Z2, **needs)
    torch.testing.assert_close(loss.memory[0, :6], torch.nn.functional.normalize(Z2).float())
    torch.testing.assert_close(loss.memory[:, 6:], before[:, :2])


def test_the_low_rank_prior_starts_when_told() -> None:
    loss = losses.build("lorac", dim=4, classes=3, start=0.5)
    values = []
    for progress in (0.0, 0.49, 0.5):
        needs = {"projections": (Z1, Z2, Z1), "momentum_projections": (Z2, Z1, Z1), "progress": progress}
        with torch.no_grad():
            values.append(float(loss(Z1, Z2, **needs)))
    assert values[0] == values[1] < values[2]
