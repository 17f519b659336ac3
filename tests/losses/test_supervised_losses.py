"""Values of the supervised and prototype losses on a fixed input, computed beforehand with numpy from the equations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.losses.fedrcl import FedRCL
from tests.helpers.embeddings import golden_views
from tests.oracles import blcl, dscl

FULL, SEMI = [0, 0, 1, 1, 2, 2], [0, 0, 1, -1, 2, -1]


def value(name: str, labels: list[int] | None = None, **params: Any) -> float:
    z1, z2 = golden_views()
    loss = built(name, **params)
    return float(loss(z1, z2, None if labels is None else torch.tensor(labels)))


def built(name: str, **params: Any) -> Any:
    loss = losses.build(name, dim=4, classes=3, images=6, **params)
    return loss.double() if isinstance(loss, torch.nn.Module) else loss


def test_clop_on_axes() -> None:
    loss = built("clop", base="none")
    loss.prototypes = torch.eye(3, 4, dtype=torch.float64)
    assert float(loss(*golden_views(), torch.tensor(SEMI))) == pytest.approx(0.99137163, abs=1e-8)


def test_etf_dot_regression_on_a_centred_basis() -> None:
    loss = built("etf_dot_regression")
    loss.prototypes = 1.5**0.5 * (torch.eye(3, 4, dtype=torch.float64) - torch.tensor([1.0, 1, 1, 0]) / 3)
    z1, _ = golden_views()
    assert float(loss(z1, z1, torch.tensor(FULL))) == pytest.approx(0.74747916, abs=1e-8)


def test_simo() -> None:
    assert value("simo", FULL) == pytest.approx(1.12904913, abs=1e-8)


def test_simo_ratio() -> None:
    same = value("simo_ratio", FULL, eps=1e-6, weight=0.0)
    both = value("simo_ratio", FULL, eps=1e-6)
    assert same == pytest.approx(2.80861246, abs=1e-8)
    assert both - same == pytest.approx(0.08133835, abs=1e-8)


def test_fedrcl_in_the_codes_form() -> None:
    """The code's batch has one view of an image, so its value is that of the first view's rows alone."""
    z1, _ = golden_views()
    labels = torch.tensor(FULL)
    cosine = torch.nn.functional.normalize(z1) @ torch.nn.functional.normalize(z1).T
    alike = labels[:, None] == labels
    mates = alike & ~torch.eye(6, dtype=torch.bool)
    contrast = FedRCL(pairs="hardest", penalty=0.0)._of_hardest(cosine, mates, ~alike).mean()
    both = FedRCL(pairs="hardest")._of_hardest(cosine, mates, ~alike).mean()
    assert float(contrast) == pytest.approx(11.46334129, abs=1e-8)
    assert float(both - contrast) == 0


def test_coding_rate_of_one_view() -> None:
    """Both views equal: the rate of the doubled rows is that of one view."""
    z1, _ = golden_views()
    loss = built("anti_collapse", base="none", kind="pair", form="linear")
    assert float(loss(z1, z1)) == pytest.approx(-1.99645680, abs=1e-8)


def test_dscl_with_equal_shares_is_a_mean_and_without_classmates_is_nt_xent() -> None:
    assert value("dscl", None, temperature=0.5) == pytest.approx(0.94720011, abs=1e-8)
    assert value("dscl", SEMI, beta=0.0, temperature=0.5) == pytest.approx(0.94720011, abs=1e-8)
    # One classmate in two views and the own view: beta = 2 weighs all three alike, which is SupCon.
    assert value("dscl", FULL, beta=2.0, temperature=0.1) == pytest.approx(7.61699885, abs=1e-8)


def test_scl_relu_is_supcon_on_positive_embeddings() -> None:
    z1, z2 = (view.abs() for view in golden_views())
    labels = torch.tensor(SEMI)
    by_supcon = losses.build("supcon")(z1, z2, labels)
    assert float(built("scl_relu")(z1, z2, labels)) == pytest.approx(float(by_supcon), abs=1e-12)


def test_unhinged_with_a_simplex_is_a_multiple_of_clops_pull() -> None:
    z1, z2 = golden_views()
    unhinged, clop = built("unhinged"), built("clop", base="none", prototypes="simplex_etf")
    clop.prototypes = unhinged.prototypes
    labels = torch.tensor(SEMI)
    assert float(unhinged(z1, z2, labels)) == pytest.approx(1.5 * (float(clop(z1, z2, labels)) - 1), abs=1e-6)


def test_dscl_remembers_momentum_keys() -> None:
    """Three steps of a queue of 8 keys: it fills, turns over, and unlabelled keys are nobody's classmates."""
    loss, labels = built("dscl", queue=8), torch.tensor(SEMI)
    remembered: list[tuple[Tensor, int]] = []
    for step in range(3):
        z1, z2 = (view.roll(step, dims=1) for view in golden_views())
        slow = (z1 + 1, z2 - 0.5)
        found = loss(z1, z2, labels, momentum_projections=slow)
        expected = dscl.oracle(list(z1), list(z2), SEMI, remembered=remembered[-8:], queue=8)
        assert float(found) == pytest.approx(float(expected), abs=1e-10)
        remembered += zip(slow[1], SEMI, strict=True)


def test_dscl_remembers_nothing_without_a_gradient() -> None:
    loss = built("dscl", queue=8)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    with torch.no_grad():
        loss(*golden_views(), torch.tensor(FULL), momentum_projections=golden_views())
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_dscl_takes_the_last_keys_of_a_batch_larger_than_its_queue() -> None:
    loss, (z1, z2) = built("dscl", queue=4), golden_views()
    loss(z1, z2, torch.tensor(SEMI), momentum_projections=(z1, z2))
    assert sorted(loss.key_labels.tolist()) == sorted(SEMI[-4:])


def test_blcl_keeps_prototypes_and_learned_weights() -> None:
    """A second step, without class 2 and with weights that were learned."""
    loss, (z1, z2) = built("blcl"), golden_views()
    logits = (z1[:, :3], z2[:, :3])
    loss(z1, z2, torch.tensor(FULL), logits=logits)
    stored = {c: loss.prototypes[c].clone() for c in range(3)}
    with torch.no_grad():
        loss.uncertainties.copy_(torch.tensor([0.7, -1.2], dtype=torch.float64))
    labels = [0, 1, -1, 1, -1, 0]
    found = loss(z2, z1, torch.tensor(labels), logits=logits)
    expected = blcl.oracle(list(z2), list(z1), labels, logits=logits, stored=stored, scalars=(0.7, -1.2))
    assert float(found.detach()) == pytest.approx(float(expected), abs=1e-10)
    assert torch.equal(loss.prototypes[2], stored[2])


def test_pauc_finds_its_clusters_once_an_epoch() -> None:
    loss, (z1, z2), index = built("pauc", clusters=2), golden_views(), torch.arange(6)

    def clusters(epoch: int, progress: float) -> list[int]:
        loss(z1, z2, index=index, epoch=epoch, progress=progress)
        return list(loss.clusterings[0].cluster.tolist())

    assert clusters(0, 0.05) == [-1] * 6  # warm-up
    first = clusters(0, 0.2)
    assert sorted(set(first)) == [0, 1]
    z1, z2 = z1.flip(0), z2.flip(0)  # other images at the same places
    assert clusters(0, 0.3) == first
    assert clusters(1, 0.4) != first


def test_pauc_groups_what_is_close() -> None:
    """Two tight bundles are the two clusters, each with its images."""
    bundles = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.float64).repeat(3, 1)
    z1, z2 = (bundles + 0.05 * view for view in golden_views())
    loss = built("pauc", clusters=2, warmup=0.0, granularities=1)
    loss(z1, z2, index=torch.arange(6), epoch=0, progress=0.0)
    found = loss.clusterings[0].cluster.tolist()
    assert found[0::2] == [found[0]] * 3
    assert found[1::2] == [1 - found[0]] * 3
    assert float(loss.clusterings[0].concentration.mean()) == pytest.approx(0.2)


def test_learned_parts_get_a_gradient() -> None:
    for name, params in (("clop", {"prototypes": "learned"}), ("anti_collapse", {}), ("blcl", {})):
        loss = built(name, **params)
        loss(*golden_views(), torch.tensor(FULL)).backward()
        learned = list(loss.parameters())
        assert learned
        assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in learned)
