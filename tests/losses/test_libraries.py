"""The same numbers from libraries of other people: value and gradient, in float64, on projections as they come.

lightly and pytorch-metric-learning are the extra `oracle`. Where they are not installed these tests are skipped.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contract import Batch, extra_inputs
from cl_semisup.losses import requirements_of

pytestmark = pytest.mark.oracle

IMAGES, DIM, CLASSES = 24, 8, 4
Other = Callable[[Tensor, Tensor], Tensor]


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name.partition('.')[0]} is not installed; it is in the extra `oracle`")


def agree(name: str, other: Other, labels: Tensor | None = None, rtol: float = 1e-9, **params: Any) -> Any:
    """Ours against theirs on one batch; returns our loss, built anew for it."""
    return agree_with(build(name, **params), other, labels, rtol)


def agree_with(loss: Any, other: Other, labels: Tensor | None = None, rtol: float = 1e-9, seed: int = 0) -> Any:
    batch = Batch.draw(IMAGES, DIM, CLASSES, seed=seed)
    found = []
    for theirs in (False, True):
        z1, z2 = batch.z1.clone().requires_grad_(), batch.z2.clone().requires_grad_()
        if theirs:
            value = other(z1, z2)
        else:
            extras = extra_inputs(requirements_of(loss), Batch(z1, z2, labels), torch.arange(IMAGES), CLASSES)
            value = loss(z1, z2, labels, **extras)
        gradients = torch.autograd.grad(value, (z1, z2), allow_unused=True)
        found.append((value.detach(), *(torch.zeros_like(z1) if g is None else g for g in gradients)))
    assert found[1][1].abs().max() > 0, "their gradient is zero: nothing was compared"
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, rtol=rtol, atol=rtol)
    return loss


def build(name: str, **params: Any) -> Any:
    loss = losses.build(name, dim=DIM, classes=CLASSES, seed=0, images=IMAGES, **params)
    return loss.double() if isinstance(loss, torch.nn.Module) else loss


def own_identities(labels: Tensor) -> Tensor:
    """Labels in which every unlabelled image is a class of its own, for libraries that know no -1."""
    return torch.where(labels < 0, CLASSES + torch.arange(len(labels)), labels)


# lightly ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent(temperature: float) -> None:
    agree("nt_xent", library("lightly.loss").NTXentLoss(temperature=temperature), temperature=temperature)


def test_moco_v2_against_a_memory_bank() -> None:
    """lightly's bank takes a key after every call, as our queue does; both start from the same rows."""
    theirs = library("lightly.loss").NTXentLoss(temperature=0.2, memory_bank_size=(48, DIM))
    ours = build("moco_v2", queue=48, temperature=0.2)
    theirs.memory_bank.bank = ours.queue.clone()
    for seed in range(3):
        agree_with(ours, lambda z1, z2: theirs(z1, z2.detach()), seed=seed)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_dcl(temperature: float) -> None:
    agree("dcl", library("lightly.loss").DCLLoss(temperature=temperature), temperature=temperature)


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")  # of theirs
def test_dclw() -> None:
    theirs = library("lightly.loss").DCLWLoss(temperature=0.2, sigma=0.5)
    agree("dclw", theirs, temperature=0.2, sigma=0.5)


def test_barlow_twins() -> None:
    agree("barlow_twins", library("lightly.loss").BarlowTwinsLoss(lambda_param=0.0051), redundancy=0.0051)


def test_vicreg() -> None:
    theirs = library("lightly.loss").VICRegLoss(lambda_param=25.0, mu_param=20.0, nu_param=3.0)
    agree("vicreg", theirs, invariance=25.0, variance=20.0, covariance=3.0)


def test_align_uniform() -> None:
    theirs = library("lightly.loss.hypersphere_loss").HypersphereLoss(t=2.0, lam=0.5, alpha=2.0)
    agree("align_uniform", theirs, uniform_weight=0.5)


def test_mmcr() -> None:
    """Theirs takes rows as they come; the nuclear norms of the pairs are counted in both."""
    theirs = library("lightly.loss").MMCRLoss(lmda=0.3)
    agree("mmcr", lambda z1, z2: theirs(z1[:, None], z2[:, None]), lmda=0.3, normalize=False)


def test_tico_step_after_step() -> None:
    theirs = library("lightly.loss").TiCoLoss(beta=0.8, rho=5.0)
    ours = build("tico", beta=0.8, rho=5.0, momentum_encoder=False)
    for seed in range(3):
        agree_with(ours, theirs, seed=seed)


def test_simsiam() -> None:
    similarity = library("lightly.loss").NegativeCosineSimilarity()
    ours = build("simsiam")

    def theirs(z1: Tensor, z2: Tensor) -> Tensor:
        p1, p2 = ours.predictor(z1), ours.predictor(z2)
        return (similarity(p1, z2.detach()) + similarity(p2, z1.detach())) / 2

    agree_with(ours, theirs)


def test_byol() -> None:
    similarity = library("lightly.loss").NegativeCosineSimilarity()
    ours = build("byol")

    def theirs(z1: Tensor, z2: Tensor) -> Tensor:
        p1, p2 = ours.predictor(z1), ours.predictor(z2)
        return 4 + 2 * similarity(p1, z2.detach()) + 2 * similarity(p2, z1.detach())

    agree_with(ours, theirs)


def test_swav() -> None:
    loss = library("lightly.loss").SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)
    ours = build("swav", prototypes=10, frozen_epochs=0)

    def theirs(z1: Tensor, z2: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        return loss([unit(z, dim=1) @ unit(ours.prototypes, dim=1).T for z in (z1, z2)], []).squeeze()

    agree_with(ours, theirs)


def test_dino_step_after_step() -> None:
    """Temperatures that float32 holds exactly, since theirs are kept in it. Their centre moves as ours does."""
    settings = dict(warmup_teacher_temp=0.0625, teacher_temp=0.0625, student_temp=0.125, center_momentum=0.9)
    loss = library("lightly.loss").DINOLoss(output_dim=10, **settings).double()
    ours = build("dino", prototypes=10, temperature=0.125, teacher_temperature=0.0625, frozen_epochs=0, momentum=0.5)

    def theirs(z1: Tensor, z2: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        student = [unit(z, dim=1) @ unit(ours.prototypes, dim=1).T for z in (z1, z2)]
        teacher = [unit(z.detach(), dim=1) @ unit(ours.slow_prototypes, dim=1).T for z in (z1, z2)]
        return loss(teacher, student)

    for seed in range(3):
        agree_with(ours, theirs, seed=seed)
        torch.testing.assert_close(ours.centre, loss.center.flatten(), rtol=1e-9, atol=1e-9)


def test_w_mse() -> None:
    """One group of all images, so that the order in which they are drawn does not matter."""
    loss = library("lightly.loss").WMSELoss(embedding_dim=DIM, w_size=IMAGES, eps=0.01, track_running_stats=False)
    agree("w_mse", lambda z1, z2: loss(torch.cat([z1, z2])), group=0, eps=0.01)


def test_koleo() -> None:
    """Theirs adds 1e-8 to every coordinate of the difference, hence the tolerance."""
    loss = library("lightly.loss").KoLeoLoss()
    agree("koleo", lambda z1, z2: loss(z1) + loss(z2), rtol=1e-6, base="none", weight=1.0, of="projections")


def test_lejepa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along the same directions; theirs draws them from the global generator. Its knots are float32 numbers."""
    module = library("lightly.loss.lejepa_loss")
    loss = module.LeJEPALoss(sigreg_num_vectors=32).double()
    ours = build("lejepa", weight=0.05, directions=32)
    directions = ours.directions(torch.zeros(1, DIM, dtype=torch.float64), 0.5)
    monkeypatch.setattr(loss.sigreg, "_generate_unit_vectors", lambda *_: directions)

    def theirs(z1: Tensor, z2: Tensor) -> Tensor:
        views = torch.stack([z1, z2])  # both are global ones
        invariance = module.lejepa_invariance_loss(all_proj=views, global_proj=views)
        return 0.95 * invariance + 0.05 * loss.sigreg(views)

    agree_with(ours, theirs, rtol=1e-6)


# pytorch-metric-learning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["some", "all"])
def test_supcon(known: str) -> None:
    labels = Batch.draw(IMAGES, DIM, CLASSES).labels if known == "some" else torch.arange(IMAGES) % CLASSES
    assert labels is not None
    loss = library("pytorch_metric_learning.losses").SupConLoss(temperature=0.2)
    theirs = lambda z1, z2: loss(torch.cat([z1, z2]), own_identities(labels).repeat(2))  # noqa: E731
    agree("supcon", theirs, labels, temperature=0.2)


def test_nt_xent_as_a_metric_loss() -> None:
    loss = library("pytorch_metric_learning.losses").NTXentLoss(temperature=0.3)
    agree("nt_xent", lambda z1, z2: loss(torch.cat([z1, z2]), torch.arange(IMAGES).repeat(2)), temperature=0.3)


def test_vicreg_again() -> None:
    loss = library("pytorch_metric_learning.losses").VICRegLoss(
        invariance_lambda=25, variance_mu=25, covariance_v=1, eps=1e-4
    )
    agree("vicreg", lambda z1, z2: loss(z1, ref_emb=z2))


def test_the_proxy_anchor_of_anti_collapse() -> None:
    ours = build("anti_collapse", base="none", weight=0.0, alignment=1.0, sharpness=32.0)
    labels = torch.arange(IMAGES) % (CLASSES - 1)  # a class is absent
    loss = library("pytorch_metric_learning.losses").ProxyAnchorLoss(CLASSES, DIM, margin=0.1, alpha=32).double()
    loss.proxies.data = ours.proxies.detach().clone()
    agree_with(ours, lambda z1, z2: loss(torch.cat([z1, z2]), labels.repeat(2)), labels)
