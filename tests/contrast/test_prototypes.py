"""The prototypes themselves: what kind of frame they are, what they refuse, and which draw they come from."""

import re

import pytest
import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contrast import prototypes
from cl_semisup.errors import InputError


def drawn(kind: str, classes: int, dim: int, seed: int = 0) -> Tensor:
    """(C, D) prototypes of a built clop."""
    loss = losses.build("clop", dim=dim, classes=classes, seed=seed, prototypes=kind)
    found = loss.prototypes  # type: ignore[attr-defined]
    assert isinstance(found, Tensor)
    assert found.shape == (classes, dim)
    return found.detach()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("classes", "dim"), [(1, 1), (3, 3), (10, 128), (100, 128), (128, 128)])
def test_orthonormal_prototypes_are_orthonormal(classes: int, dim: int) -> None:
    rows = drawn("orthonormal", classes, dim)
    torch.testing.assert_close(rows @ rows.T, torch.eye(classes), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (3, 2), (10, 9), (10, 128), (100, 99), (100, 128)])
def test_simplex_prototypes_have_the_cosines_of_a_simplex_of_c_points(classes: int, dim: int) -> None:
    rows = drawn("simplex_etf", classes, dim)
    expected = torch.full((classes, classes), -1 / (classes - 1)).fill_diagonal_(1)
    torch.testing.assert_close(rows @ rows.T, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(rows.sum(dim=0), torch.zeros(dim), rtol=0, atol=1e-5)


def test_a_seed_means_the_same_simplex_on_every_machine() -> None:
    """Corners by hand: row i of Helmert's basis at length 1, times the frame. LAPACK's eigenvectors would vary."""
    classes, dim = 4, 5
    frame = prototypes.orthonormal(classes - 1, dim, generator(), "test").double()
    for i, corner in enumerate(prototypes.regular_simplex(classes, dim, generator(), "test").double()):
        row = [1 / (j * (j + 1)) ** 0.5 if i < j else -((j / (j + 1)) ** 0.5) if i == j else 0.0 for j in (1, 2, 3)]
        expected = sum(number * frame[k] for k, number in enumerate(row)) / (1 - 1 / classes) ** 0.5
        torch.testing.assert_close(corner, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["random_unit", "learned", "simplex_etf"])
def test_every_prototype_has_length_one(kind: str) -> None:
    rows = drawn(kind, 10, 9)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(10), rtol=0, atol=1e-6)


def test_random_and_learned_prototypes_may_be_more_than_dimensions() -> None:
    assert drawn("random_unit", 50, 3).shape == drawn("learned", 50, 3).shape


def test_learned_prototypes_start_as_the_random_ones() -> None:
    assert torch.equal(drawn("learned", 10, 16), drawn("random_unit", 10, 16))


def test_only_learned_prototypes_are_trained() -> None:
    for kind in ("orthonormal", "simplex_etf", "random_unit", "learned"):
        loss = losses.build("clop", dim=8, classes=4, prototypes=kind)
        assert isinstance(loss, torch.nn.Module)
        assert [name for name, _ in loss.named_parameters()] == (["prototypes"] if kind == "learned" else [])
        assert "prototypes" in loss.state_dict()


def test_the_length_of_a_learned_prototype_does_not_matter() -> None:
    z, labels = torch.randn(6, 8, generator=generator()), torch.tensor([0, 1, 2, 3, -1, -1])
    values = []
    for scale in (1.0, 3.0):
        loss = losses.build("clop", dim=8, classes=4, base="none", prototypes="learned")
        with torch.no_grad():
            loss.prototypes.mul_(scale)  # type: ignore[attr-defined]
        values.append(loss(z, z, labels).detach())
    torch.testing.assert_close(values[0], values[1])


def test_more_classes_than_dimensions_have_no_orthonormal_prototypes() -> None:
    text = (
        "clop: orthonormal prototypes need at least as many dimensions as classes. Got classes=10, dim=9. "
        "Set projector dim >= 10, or prototypes: simplex_etf (dim >= 9) or random_unit."
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        drawn("orthonormal", 10, 9)


def test_a_simplex_needs_one_dimension_less_than_points() -> None:
    text = (
        "clop: a simplex of C points needs at least C - 1 dimensions. Got classes=10, dim=8. "
        "Set projector dim >= 9, or prototypes: random_unit."
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        drawn("simplex_etf", 10, 8)


@pytest.mark.parametrize("name", ["etf_dot_regression", "unhinged"])
def test_losses_with_a_fixed_simplex_refuse_too_few_dimensions(name: str) -> None:
    text = (
        f"{name}: a simplex of C points needs at least C - 1 dimensions. Got classes=10, dim=8. Set projector dim >= 9."
    )
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        losses.build(name, dim=8, classes=10)
    corners = losses.build(name, dim=9, classes=10).prototypes  # type: ignore[attr-defined]
    assert float((corners @ corners.T)[0, 1]) == pytest.approx(-1 / 9, abs=1e-6)


@pytest.mark.parametrize("kind", ["orthonormal", "simplex_etf", "random_unit", "learned"])
def test_the_seed_names_the_draw(kind: str) -> None:
    first, again, other = (drawn(kind, 4, 8, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 0.1


@pytest.mark.parametrize("kind", ["orthonormal", "simplex_etf", "random_unit"])
def test_prototypes_draw_nothing_from_the_global_generator(kind: str) -> None:
    before = torch.get_rng_state()
    drawn(kind, 4, 8)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [prototypes.orthonormal, prototypes.regular_simplex])
def test_frames_have_no_preferred_direction(kind: object) -> None:
    """Over 4000 frames every prototype is centred, has covariance I / D, and correlates with no other dimension.

    The entries of a uniform unit vector in D = 5 have variance 1/5; means over 4000 draws deviate by 0.007.
    """
    source = generator(3)
    frames = torch.stack([kind(3, 5, source, "test") for _ in range(4000)])  # type: ignore[operator]  # (4000, C, D)
    for row in frames.unbind(dim=1):
        assert float(row.mean(dim=0).abs().max()) < 0.035
        second = row.T @ row / len(row)
        assert float((second - torch.eye(5) / 5).abs().max()) < 0.02
        # A uniform direction in D dimensions has E[x^4] = 3 / (D (D + 2)): the law, not only its second moments.
        assert float((row.double() ** 4).mean()) == pytest.approx(3 / 35, rel=0.05)
