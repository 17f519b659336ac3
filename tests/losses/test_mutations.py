"""Losses that are wrong on purpose: the oracles must tell each from the right one, in value or in gradient.

A mutant is a small function that is right but for one mistake. That the same functions without their mistake agree
with the oracles is tested too, so what catches a mutant is its mistake.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contract import Batch, extra_inputs
from cl_semisup.losses import requirements_of

IMAGES, DIM, CLASSES = 7, 5, 3
KNOWN = ("some", "all", "none")
Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Mutant:
    """A wrong version of a loss; `params` is what it is called with beyond the inputs."""

    of: str
    mistake: str
    function: Function
    params: dict[str, Any]


MUTANTS: list[Mutant] = []


def mutant(of: str, mistake: str, **params: Any) -> Callable[[Function], Function]:
    """Registers a wrong version of the loss `of`."""

    def register(function: Function) -> Function:
        MUTANTS.append(Mutant(of, mistake, function, params))
        return function

    return register


# The right versions, with a place for a mistake ---------------------------------------------------------------------


def unit(z: Tensor) -> Tensor:
    return F.normalize(z, dim=1)


def off_diagonal(count: int) -> Tensor:
    return ~torch.eye(count, dtype=torch.bool)


def is_same(labels: Tensor | None, minus_one_is_a_class: bool = False) -> Tensor:
    """(N, N): the same image, or two labelled images of the same class."""
    itself = torch.eye(IMAGES, dtype=torch.bool)
    if labels is None:
        return itself
    equal = labels[:, None] == labels[None, :]
    return itself | (equal if minus_one_is_a_class else equal & (labels >= 0)[:, None])


def lse(logits: Tensor, among: Tensor) -> Tensor:
    return logits.masked_fill(~among, -torch.inf).logsumexp(dim=1)


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 0.5,
    prepare: Function = unit,
    among: Function = lambda count: off_diagonal(2 * count),
    anchors: Function = lambda terms: terms.mean(),
) -> Tensor:
    count = len(z1)
    z = torch.cat([prepare(z1), prepare(z2)])
    logits = z @ z.T / temperature
    partner = torch.arange(2 * count).roll(count)
    return anchors(lse(logits, among(count)) - logits[torch.arange(2 * count), partner])


def supcon(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 0.1,
    minus_one_is_a_class: bool = False,
    self_positive: bool = False,
    inside: bool = False,
    divide: bool = True,
) -> Tensor:
    z = torch.cat([unit(z1), unit(z2)])
    logits, other = z @ z.T / temperature, off_diagonal(len(z))
    positive = is_same(labels, minus_one_is_a_class).repeat(2, 2)
    positive = positive if self_positive else positive & other
    log_p = logits - lse(logits, other)[:, None]
    number = positive.sum(dim=1) if divide else 1
    if inside:
        return -(log_p.masked_fill(~positive, -torch.inf).logsumexp(dim=1) - positive.sum(dim=1).log()).mean()
    return -((log_p * positive).sum(dim=1) / number).mean()


def supcon_in(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 0.2,
    minus_one_is_a_class: bool = False,
    divide: bool = False,
    transposed: bool = False,
) -> Tensor:
    logits = unit(z1) @ unit(z2).T / temperature
    logits = logits.T if transposed else logits
    positive = is_same(labels, minus_one_is_a_class)
    extra = positive.sum(dim=1).log() if divide else 0.0
    return (logits.logsumexp(dim=1) - lse(logits, positive) + extra).mean()


def dhel(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 0.3,
    second: Function = lambda u, v: (v, v),
    alignment: float = 1.0,
    other: Function = off_diagonal,
    detach: bool = False,
) -> Tensor:
    u, v = unit(z1), unit(z2)
    a, b = second(u, v)
    target = v.detach() if detach else v
    energy = lse(u @ u.T / temperature, other(len(u))) + lse(a @ b.T / temperature, other(len(u)))
    return (energy - alignment * (u * target).sum(dim=1) / temperature).mean()


def vicreg(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    correction: int = 1,
    root: Function = lambda variance: (variance + 1e-4).sqrt(),
    halved: float = 2.0,
    prepare: Function = lambda z: z,
    keep: Function = off_diagonal,
    centre: bool = True,
) -> Tensor:
    z1, z2 = prepare(z1), prepare(z2)
    loss = 25 * F.mse_loss(z1, z2)
    for z in (z1, z2):
        shifted = z - z.mean(dim=0) if centre else z
        covariance = shifted.T @ shifted / (len(z) - correction)
        loss = loss + 25 / halved * (1 - root(covariance.diagonal())).relu().mean()
        loss = loss + (covariance * keep(z.shape[1])).square().sum() / z.shape[1]
    return loss


def dcl(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    temperature: float = 0.1,
    among: Function = lambda count: off_diagonal(count).repeat(2, 2),
) -> Tensor:
    return nt_xent(z1, z2, labels, temperature=temperature, among=among)


def kcl(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    factor: float = 2.0,
    power: int = 2,
    among: Function = off_diagonal,
    views: int = 2,
) -> Tensor:
    u, v = unit(z1), unit(z2)
    energy = torch.zeros((), dtype=u.dtype)
    for z in (u, v)[:views]:
        squared = (z[:, None] - z[None, :]).square().sum(dim=2) + 1e-300
        energy = energy + torch.exp(-2 * squared ** (power / 2))[among(len(z))].mean()
    return 16 * energy - factor * torch.exp(-2 * (u - v).square().sum(dim=1)).mean()


def clop(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    prototypes: Tensor,
    prepare: Function = unit,
    views: int = 2,
    over: Function = lambda labelled: labelled.sum().clamp(min=1),
    who: Function = lambda labels: labels >= 0,
) -> Tensor:
    loss = nt_xent(z1, z2, None)
    if labels is None:
        return loss
    for z in (z1, z2)[:views]:
        away = 1 - (prepare(z) * prototypes[labels.where(who(labels), 0)]).sum(dim=1)
        loss = loss + (away * who(labels)).sum() / over(who(labels)) / views
    return loss


def cross_entropy(
    z1: Tensor,
    z2: Tensor,
    labels: Tensor | None,
    *,
    logits: tuple[Tensor, Tensor],
    smoothing: float = 0.0,
    views: int = 2,
    over: Function = lambda labelled: labelled.sum(),
    who: Function = lambda labels: labels >= 0,
) -> Tensor:
    if labels is None or not who(labels).any():
        return (z1.sum() + z2.sum()) * 0
    loss = torch.zeros((), dtype=z1.dtype)
    for view in logits[:views]:
        terms = F.cross_entropy(view, labels % CLASSES, reduction="none", label_smoothing=smoothing)
        loss = loss + (terms * who(labels)).sum() / over(who(labels)) / views
    return loss


RIGHT: dict[str, Function] = {
    "nt_xent": nt_xent,
    "supcon": supcon,
    "supcon_in": supcon_in,
    "dhel": dhel,
    "vicreg": vicreg,
    "dcl": dcl,
    "kcl": kcl,
    "clop": clop,
    "cross_entropy": cross_entropy,
}


# The mistakes -------------------------------------------------------------------------------------------------------


def mistake(of: str, what: str, **change: Any) -> None:
    """A mutant that is the right version with one thing changed."""
    MUTANTS.append(Mutant(of, what, RIGHT[of], change))


def everything(count: int) -> Tensor:
    return torch.ones(count, count, dtype=torch.bool)


mistake("nt_xent", "the temperature is forgotten", temperature=1.0)
mistake("nt_xent", "the self-pair is kept", among=lambda count: everything(2 * count))
mistake("nt_xent", "the positive is not in the denominator", among=lambda count: off_diagonal(count).repeat(2, 2))
mistake("nt_xent", "rows are not normalised", prepare=lambda z: z)
mistake("nt_xent", "one direction only", anchors=lambda terms: terms[: len(terms) // 2].mean())
mistake("nt_xent", "summed over anchors", anchors=lambda terms: terms.sum())
mistake("nt_xent", "divided by images, not anchors", anchors=lambda terms: terms.sum() / (len(terms) / 2))


@mutant("nt_xent", "negatives of the other view only")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    logits = unit(z1) @ unit(z2).T / 0.5
    target = torch.arange(len(z1))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@mutant("nt_xent", "the temperature multiplies")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    return nt_xent(z1, z2, labels, temperature=1 / 0.5)


@mutant("nt_xent", "no gradient through the second view")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    return nt_xent(z1, z2.detach(), labels)


@mutant("nt_xent", "the partner is the next row, as if views were interleaved")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    rows = torch.cat([z1, z2])
    return nt_xent(rows[0::2], rows[1::2], labels)


mistake("supcon", "-1 equals -1: unlabelled images are one class", minus_one_is_a_class=True)
mistake("supcon", "an anchor is its own positive", self_positive=True)
mistake("supcon", "the mean over positives inside the logarithm", inside=True)
mistake("supcon", "the positives are summed, not averaged", divide=False)


@mutant("supcon", "labels are ignored")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    return supcon(z1, z2, None)


@mutant("supcon", "anchors without a label are dropped")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    if labels is None:
        return supcon(z1, z2, None)
    z = torch.cat([unit(z1), unit(z2)])
    logits, other = z @ z.T / 0.1, off_diagonal(len(z))
    positive = is_same(labels).repeat(2, 2) & other
    terms = lse(logits, other) - (logits * positive).sum(dim=1) / positive.sum(dim=1)
    return terms[(labels >= 0).repeat(2)].mean()


@mutant("supcon", "no gradient through the denominator")
def _(z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
    z = torch.cat([unit(z1), unit(z2)])
    logits, other = z @ z.T / 0.1, off_diagonal(len(z))
    positive = is_same(labels).repeat(2, 2) & other
    return (lse(logits.detach(), other) - (logits * positive).sum(dim=1) / positive.sum(dim=1)).mean()


mistake("supcon_in", "-1 equals -1: unlabelled images are one class", minus_one_is_a_class=True)
mistake("supcon_in", "divided by the number of positives", divide=True)
mistake("supcon_in", "view-2 anchors and view-1 keys", transposed=True)
mistake("dhel", "the first view's energy twice", second=lambda u, v: (u, u))
mistake("dhel", "the second energy across the views", second=lambda u, v: (u, v))
mistake("dhel", "the alignment counts twice", alignment=2.0)
mistake("dhel", "the self-pair is kept", other=everything)
mistake("dhel", "no gradient through the second view's alignment", detach=True)
mistake("vicreg", "biased variance", correction=0)
mistake("vicreg", "the hinge on the variance, without the root", root=lambda variance: variance)
mistake("vicreg", "the variance term is not halved", halved=1.0)
mistake("vicreg", "rows are normalised", prepare=unit)
mistake("vicreg", "the diagonal counts as covariance", keep=everything)
mistake("vicreg", "not centred", centre=False)
mistake("dcl", "the positive is kept in the denominator", among=lambda count: off_diagonal(2 * count))
mistake(
    "dcl", "negatives of the own view only", among=lambda count: torch.block_diag(*[off_diagonal(count)] * 2).bool()
)
mistake("dcl", "the default temperature of NT-Xent", temperature=0.5)
mistake("kcl", "the factor 2 of the alignment is missing", factor=1.0)
mistake("kcl", "the distance is not squared", power=1)
mistake("kcl", "the self-pair is kept", among=everything)
mistake("kcl", "the energy of one view only", views=1)
mistake("clop", "the last prototype for unlabelled images", who=lambda labels: labels >= -1)
mistake("clop", "summed over labelled images", over=lambda labelled: 1.0)
mistake("clop", "divided by all images", over=len)
mistake("clop", "the first view only", views=1)
mistake("clop", "rows are not normalised", prepare=lambda z: z)
mistake("cross_entropy", "-1 is the last class", who=lambda labels: labels >= -1)
mistake("cross_entropy", "divided by all images", over=len)
mistake("cross_entropy", "the first view only", views=1)
mistake("cross_entropy", "smoothed without being asked", smoothing=0.1)


# The judge ----------------------------------------------------------------------------------------------------------


def differs(of: str, function: Function, known: str, **params: Any) -> bool:
    """Does a function leave the oracle's default case by more than rounding, in value or in gradient?"""
    oracle = importlib.import_module(f"tests.oracles.{of}").oracle
    drawn = Batch.draw(images=IMAGES, dim=DIM, classes=CLASSES, seed=5)
    assert drawn.labels is not None
    labels = {"some": drawn.labels, "all": torch.arange(IMAGES) % CLASSES, "none": None}[known]
    built = losses.build(of, dim=DIM, classes=CLASSES)
    if isinstance(built, torch.nn.Module):
        built.double()
    found = []
    for by_loops in (True, False):
        z1, z2 = drawn.z1.clone().requires_grad_(), drawn.z2.clone().requires_grad_()
        extras = extra_inputs(requirements_of(built), Batch(z1, z2, labels), torch.arange(IMAGES), CLASSES)
        if by_loops:
            extras |= {"loss": built} if of == "clop" else {}
            value = oracle(list(z1), list(z2), None if labels is None else labels.tolist(), **extras)
        else:
            extras |= {"prototypes": built.prototypes} if of == "clop" else {}  # type: ignore[attr-defined]
            value = function(z1, z2, labels, **extras, **params)
        gradients = torch.autograd.grad(value, (z1, z2), materialize_grads=True)
        found.append(torch.cat([value.detach().reshape(1), *(g.flatten() for g in gradients)]))
    assert torch.isfinite(found[1]).all(), "not a number, so it would be caught for another reason than its mistake"
    return not torch.allclose(found[0], found[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("of", RIGHT)
def test_without_a_mistake_nothing_is_caught(of: str, known: str) -> None:
    assert not differs(of, RIGHT[of], known)


@pytest.mark.parametrize("case", MUTANTS, ids=lambda case: f"{case.of}: {case.mistake}")
def test_oracles_catch_every_mistake(case: Mutant) -> None:
    assert any(differs(case.of, case.function, known, **case.params) for known in KNOWN)


def test_there_are_mistakes_enough_and_each_is_another() -> None:
    assert len({(case.of, case.mistake) for case in MUTANTS}) == len(MUTANTS) >= 19
    assert {case.of for case in MUTANTS} == set(RIGHT)
