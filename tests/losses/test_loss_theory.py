"""What theory says about losses: their minimisers, their collapsed values, bounds and identities between them."""

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contract import Batch

SPREADING = [
    ("nt_xent", {"temperature": 0.5}),
    ("dhel", {"temperature": 0.5}),
    ("kcl", {"kernel": "gaussian", "t": 1.0, "gamma": 4.0}),
]


def minimise(name: str, params: dict[str, Any], images: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit rows (M, D) of both views after descent on free embeddings: steps along the tangent, back to the sphere.

    The views start apart and both are free, so that they meet is found and not built in.
    """
    loss = losses.build(name, **params)
    generator = torch.Generator().manual_seed(seed)
    first, noise = torch.randn(2, images, dim, generator=generator, dtype=torch.float64)
    rows = torch.nn.functional.normalize(torch.stack([first, first + 0.5 * noise]), dim=2)
    for _ in range(500):
        rows.requires_grad_()
        (slope,) = torch.autograd.grad(loss(rows[0], rows[1]), rows)
        tangent = slope - (slope * rows).sum(dim=2, keepdim=True) * rows
        rows = torch.nn.functional.normalize((rows - images / 12 * tangent).detach(), dim=2)
    return rows[0], rows[1]


@pytest.mark.parametrize(("images", "dim"), [(4, 3), (4, 6), (6, 5)])
@pytest.mark.parametrize(("name", "params"), SPREADING)
def test_few_points_become_a_regular_simplex(name: str, params: dict[str, Any], images: int, dim: int) -> None:
    """M <= D + 1 points: every two images at cosine -1 / (M - 1), both views of an image the same point."""
    u, v = minimise(name, params, images, dim, seed=1)
    simplex = torch.full((images, images), -1 / (images - 1), dtype=torch.float64).fill_diagonal_(1.0)
    for gram in (u @ u.T, v @ v.T, u @ v.T):
        torch.testing.assert_close(gram, simplex, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize(("name", "params"), SPREADING)
def test_twice_as_many_points_as_dimensions_become_a_cross_polytope(
    name: str, params: dict[str, Any], dim: int
) -> None:
    """M = 2D points: each has one antipode, and is orthogonal to all others."""
    u, v = minimise(name, params, 2 * dim, dim, seed=1)
    cross = torch.tensor([-1.0] + [0.0] * (2 * dim - 2) + [1.0], dtype=torch.float64).expand(2 * dim, -1)
    for gram in (u @ u.T, v @ v.T, u @ v.T):
        torch.testing.assert_close(gram.sort(dim=1).values, cross, atol=1e-3, rtol=0)
    torch.testing.assert_close((u * v).sum(dim=1), torch.ones(2 * dim, dtype=torch.float64), atol=1e-3, rtol=0)


def over_all_batches(name: str, params: dict[str, Any], size: int) -> float:
    """Exact expected value of the loss over batches of that size, drawn without repeats from eight images."""
    population = Batch.draw(images=8, dim=5)
    loss = losses.build(name, **params)
    batches = [torch.tensor(chosen) for chosen in combinations(range(8), size)]
    return float(torch.stack([loss(population.z1[b], population.z2[b]) for b in batches]).mean())


@pytest.mark.parametrize("kernel", ["gaussian", "log", "imq"])
def test_expected_kcl_does_not_depend_on_the_batch_size(kernel: str) -> None:
    values = [over_all_batches("kcl", {"kernel": kernel}, size) for size in (2, 4, 8)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-12)


@pytest.mark.parametrize("name", ["nt_xent", "dhel", "align_uniform"])
def test_expected_losses_with_a_logarithm_do_depend_on_the_batch_size(name: str) -> None:
    values = [over_all_batches(name, {}, size) for size in (2, 4, 8)]
    assert min(abs(a - b) for a, b in combinations(values, 2)) > 0.01


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_nscl_is_below_dcl_by_no_more_than_its_bound(temperature: float, classes: int, seed: int) -> None:
    """0 <= DCL - NSCL <= log(1 + e^(2/t) / (C - 1)) for balanced classes, whatever the embeddings."""
    batch = Batch.draw(images=12, dim=3, seed=seed)
    labels = torch.arange(12) % classes
    nscl, dcl = (losses.build(name, temperature=temperature) for name in ("nscl", "dcl"))
    tight = torch.eye(classes, dtype=torch.float64)[labels]  # every class one point: the difference is at its largest
    for z1, z2 in ((batch.z1, batch.z2), (tight, tight)):
        difference = float(dcl(z1, z2) - nscl(z1, z2, labels))
        assert 0 < difference <= math.log(1 + math.exp(2 / temperature) / (classes - 1))


def test_nscl_without_labels_is_dcl_or_nt_xent() -> None:
    batch = Batch.draw()
    for repo, other in ((False, "dcl"), (True, "nt_xent")):
        nscl = losses.build("nscl", temperature=0.3, positive_in_denominator=repo)
        expected = losses.build(other, temperature=0.3)(batch.z1, batch.z2)
        for labels in (None, torch.full((len(batch.z1),), -1)):
            torch.testing.assert_close(nscl(batch.z1, batch.z2, labels), expected)


def test_semi_supervised_supcon_lies_between_nt_xent_and_supcon() -> None:
    """No label: NT-Xent. All labels: SupCon as published, here summed pair by pair."""
    batch, t = Batch.draw(), 0.3
    semi = losses.build("supcon", temperature=t)
    torch.testing.assert_close(semi(batch.z1, batch.z2), losses.build("nt_xent", temperature=t)(batch.z1, batch.z2))
    labels = torch.arange(len(batch.z1)) % 4
    rows = torch.nn.functional.normalize(torch.cat([batch.z1, batch.z2]))
    twice = labels.repeat(2)
    anchors = []
    for a in range(len(rows)):
        rest = [b for b in range(len(rows)) if b != a]
        log_p = torch.log_softmax(rows[rest] @ rows[a] / t, dim=0)
        anchors.append(-log_p[twice[rest] == twice[a]].mean())
    torch.testing.assert_close(semi(batch.z1, batch.z2, labels), torch.stack(anchors).mean())


N, DIM = 6, 5
SOME = torch.tensor([0, 0, 1, -1, 2, -1])
NEGATIVES = [8, 8, 10, 10, 10, 10]  # of each image: 12 views less those of its own class, or of itself
POSITIVES = [2, 2, 1, 1, 1, 1]  # view-2 keys of its own class, or of itself
COLLAPSED = [
    ("nt_xent", {}, math.log(2 * N - 1)),
    ("supcon", {}, math.log(2 * N - 1)),
    ("supcon_in", {}, math.log(N) - sum(map(math.log, POSITIVES)) / N),
    ("info_nce", {}, math.log(N)),
    ("dcl", {}, math.log(2 * N - 2)),
    ("dclw", {}, math.log(2 * N - 2)),
    ("nscl", {}, sum(map(math.log, NEGATIVES)) / N),
    ("nscl", {"positive_in_denominator": True}, sum(math.log(1 + n) for n in NEGATIVES) / N),
    ("dhel", {"temperature": 0.3}, 1 / 0.3 + 2 * math.log(N - 1)),
    ("dhel", {"both_views": False}, math.log(N - 1)),
    ("kcl", {"gamma": 16.0}, 2 * (16 - 1)),
    ("kcl", {"kernel": "imq", "gamma": 3.0}, 2 * (3 - 1)),
    ("kcl", {"kernel": "log"}, 0.0),
    ("align_uniform", {}, 0.0),
    ("spectral", {}, -1.0),
    ("cacr", {"views": 2}, 0.0),
    ("sgeg", {"weight": 0.1, "eps": 1e-4}, -0.1 * 2 * DIM * 1e-2),
    ("vicreg", {}, 25 * (1 - 0.01)),
]


def collapsed() -> Tensor:
    """(N, D) rows that are all the same unit vector."""
    row = torch.randn(DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (row / row.norm()).expand(N, DIM).clone()


@pytest.mark.parametrize(("name", "params", "expected"), COLLAPSED)
def test_value_of_collapsed_embeddings(name: str, params: dict[str, Any], expected: float) -> None:
    value = losses.build(name, **params)(collapsed(), collapsed(), SOME)
    assert float(value) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("base", ["nt_xent", "supcon", "dcl"])
def test_value_of_collapsed_embeddings_with_prototypes(base: str) -> None:
    """The base loss is at its collapsed value; each labelled image adds 1 less its cosine with its prototype."""
    clop = losses.build("clop", dim=DIM, classes=3, base=base, weight=0.7)
    cosines = collapsed()[0] @ clop.prototypes.double().T  # type: ignore[attr-defined]
    pull = 1 - float(cosines[SOME[SOME >= 0]].mean())
    expected = math.log(2 * N - (2 if base == "dcl" else 1)) + 0.7 * pull
    assert float(clop(collapsed(), collapsed(), SOME)) == pytest.approx(expected, abs=1e-6)


PERFECT = [("align_uniform", {"uniform_weight": 0.0}, 0.0), ("cacr", {"views": 2, "repulsion_weight": 0.0}, 0.0)]
PERFECT += [("kcl", {"gamma": 0.0}, -2.0), ("vicreg", {"variance": 0.0, "covariance": 0.0}, 0.0)]


@pytest.mark.parametrize(("name", "params", "expected"), PERFECT)
def test_alignment_of_views_that_are_equal(name: str, params: dict[str, Any], expected: float) -> None:
    z = Batch.draw().z1
    assert float(losses.build(name, **params)(z, z)) == pytest.approx(expected, abs=1e-12)
