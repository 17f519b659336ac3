"""Geometry of embeddings: against loops in float64, closed-form cases and published golden values."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cl_semisup.evaluation import _classes
from cl_semisup.measures import geometry
from tests.helpers import metrics as oracles
from tests.helpers.embeddings import cloud, golden_views

CASES = [(7, 3), (12, 5), (40, 6), (6, 9), (2, 4)]  # (N, D), also fewer rows than dimensions


def sphere(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(cloud(count, dim, seed), dim=1)


def simplex(classes: int, dim: int) -> torch.Tensor:
    """(C, D) unit rows with all cosines -1 / (C - 1)."""
    rows = torch.eye(classes, dtype=torch.float64) - 1 / classes
    return F.normalize(F.pad(rows, (0, dim - classes)), dim=1)


@pytest.mark.parametrize(("count", "dim"), CASES)
def test_every_measure_of_embeddings_is_what_a_loop_computes(count: int, dim: int) -> None:
    z, u, v = cloud(count, dim), sphere(count, dim), sphere(count, dim, 1)
    assert float(geometry.effective_rank(z)) == pytest.approx(oracles.effective_rank(z.numpy()), abs=1e-6)
    centred = geometry.effective_rank(z, centred=True)
    assert float(centred) == pytest.approx(oracles.effective_rank(z.numpy(), centred=True), abs=1e-5)
    assert float(geometry.alignment(u, v)) == pytest.approx(oracles.alignment(u.numpy(), v.numpy()))
    assert float(geometry.uniformity(u)) == pytest.approx(oracles.uniformity(u.numpy()))
    assert geometry.cka(z, v) == pytest.approx(oracles.cka(z.numpy(), v.numpy()))


@pytest.mark.parametrize("dim", [3, 5, 16])
def test_wasserstein_uniformity_is_the_area_between_distribution_functions(dim: int) -> None:
    u = sphere(40, dim)
    assert geometry.wasserstein_uniformity(u) == pytest.approx(oracles.wasserstein_uniformity(u.numpy()), abs=2e-3)


def test_golden_values_of_clouds() -> None:
    z1, z2 = golden_views()
    u, v = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    assert float(geometry.alignment(u, v)) == pytest.approx(0.07805289, abs=1e-7)
    both = (geometry.uniformity(u) + geometry.uniformity(v)) / 2
    assert float(both) == pytest.approx(-3.24580852, abs=1e-7)
    assert float(geometry.rankme(z1)) == pytest.approx(3.60340262, abs=1e-6)
    assert float(geometry.effective_rank(z1, centred=True)) == pytest.approx(3.57394032, abs=1e-6)
    assert geometry.wasserstein_uniformity(u) == pytest.approx(0.14208096, abs=1e-7)
    assert geometry.cka(z1, z2) == pytest.approx(0.96013975, abs=1e-7)


def test_golden_values_of_classes() -> None:
    z1, _ = golden_views()
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    clusters = _classes.Clusters.of(z1, y)
    assert clusters.nc1() == pytest.approx(1.05793653, abs=1e-7)
    assert clusters.nc2()["nc2_norm"] == pytest.approx(0.17206375, abs=1e-7)
    assert clusters.nc2()["nc2_angle"] == pytest.approx(0.28921854, abs=1e-7)
    assert clusters.nc2()["nc2_simplex"] == pytest.approx(0.25696302, abs=1e-7)
    assert clusters.cdnv() == pytest.approx(1.04567447, abs=1e-7)
    assert clusters.directional_cdnv() == pytest.approx(0.06609688, abs=1e-7)
    assert _classes.class_separation(z1, y) == pytest.approx(0.35010154, abs=1e-7)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (2, 7, 3, 5)])
def test_every_measure_of_classes_is_what_a_loop_computes(sizes: tuple[int, ...]) -> None:
    y = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    x = cloud(len(y), 8) + 2 * cloud(len(sizes), 8, 1)[y]
    clusters, rows, labels = _classes.Clusters.of(x, y), x.numpy(), y.numpy()
    assert clusters.nc1() == pytest.approx(oracles.nc1(rows, labels))
    assert clusters.nc2() == pytest.approx(oracles.nc2(rows, labels))
    assert clusters.cdnv() == pytest.approx(oracles.cdnv(rows, labels))
    assert clusters.directional_cdnv() == pytest.approx(oracles.directional_cdnv(rows, labels))
    assert _classes.class_separation(x, y) == pytest.approx(oracles.class_separation(rows, labels))
    ranks = [oracles.effective_rank(rows[labels == c], centred=True) for c in range(len(sizes))]
    assert _classes.class_effective_rank(x, y) == pytest.approx(np.mean(ranks), abs=1e-5)


# closed forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "rank"), [(128, 127.0), (16, 16.0)])
def test_uniform_points_on_the_sphere_look_uniform(dim: int, rank: float) -> None:
    u = sphere(2048, dim).float()
    assert float(geometry.effective_rank(u)) == pytest.approx(rank, abs=0.2)
    moments = math.log(np.mean(np.exp(4 * np.random.default_rng(0).beta((dim - 1) / 2, (dim - 1) / 2, 10**6) * 2 - 8)))
    assert float(geometry.uniformity(u)) == pytest.approx(moments, abs=0.02)
    assert float(geometry.feature_std(u)) == pytest.approx(1, abs=0.01)
    assert geometry.wasserstein_uniformity(u[:500]) < 0.004


def test_one_point_is_the_worst_of_all() -> None:
    u = F.normalize(torch.ones(30, 8), dim=1)
    assert float(geometry.effective_rank(u)) == pytest.approx(1, abs=1e-3)
    assert float(geometry.uniformity(u)) == pytest.approx(0, abs=1e-5)
    assert float(geometry.feature_std(u)) == pytest.approx(0, abs=1e-6)
    assert float(geometry.alignment(u, u)) == 0
    assert geometry.wasserstein_uniformity(u) == pytest.approx(1, abs=2e-3)


def test_wasserstein_uniformity_of_a_point_in_any_dimension_is_one_less_nothing() -> None:
    """All cosines are 1, and the law's mean is 0: the distance is exactly 1, in 128 dimensions and elsewhere."""
    for dim in (2, 3, 64, 128, 300):
        assert geometry.wasserstein_uniformity(F.one_hot(torch.zeros(20, dtype=torch.long), dim).double()) == (
            pytest.approx(1, abs=1e-9)
        )


@pytest.mark.parametrize(("dim", "distance"), [(128, 0.14), (16, 0.217)])
def test_ten_orthonormal_classes_are_far_from_uniform(dim: int, distance: float) -> None:
    points = torch.eye(dim, dtype=torch.float64)[:10].repeat(40, 1)
    assert geometry.wasserstein_uniformity(points) == pytest.approx(distance, abs=5e-3)
    assert float(geometry.effective_rank(points)) == pytest.approx(10)


def test_rank_counts_directions_whatever_their_length_and_turn() -> None:
    turn = torch.linalg.qr(cloud(20, 20))[0]
    z = torch.cat([torch.eye(5, dtype=torch.float64), torch.zeros(5, 15, dtype=torch.float64)], dim=1) @ turn
    assert float(geometry.effective_rank(z)) == pytest.approx(5)
    assert float(geometry.effective_rank(7 * z)) == pytest.approx(5)
    assert float(geometry.effective_rank(torch.zeros(4, 3))) == 1
    assert float(geometry.rankme(z)) == pytest.approx(5, abs=1e-3)


def test_rankme_counts_every_empty_direction_a_little() -> None:
    """A line in 400 dimensions: one share of 1 + e and 399 of e = 1e-7."""
    line = cloud(400, 1) @ cloud(1, 400, 1)
    expected = math.exp(-(1 + 1e-7) * math.log(1 + 1e-7) - 399 * 1e-7 * math.log(1e-7))
    assert expected > 1.0006
    assert float(geometry.rankme(line)) == pytest.approx(expected, abs=1e-6)


def test_alpha_req_finds_the_exponent_of_a_power_law() -> None:
    for alpha in (0.5, 1.0, 2.0):
        left = torch.linalg.qr(cloud(400, 150) - cloud(400, 150).mean(dim=0))[0]
        z = left * torch.arange(1, 151, dtype=torch.float64) ** (-alpha / 2)
        z = z - z.mean(dim=0)
        found, fit = geometry.alpha_req(z)
        assert found == pytest.approx(alpha, abs=0.02)
        assert found == pytest.approx(oracles.alpha_req(z.numpy()), abs=1e-6)
        assert fit > 0.99


@pytest.mark.parametrize(("count", "dim"), [(300, 60), (50, 300), (400, 150)])
def test_alpha_req_weighs_the_first_ranks_most(count: int, dim: int) -> None:
    """Where no power law holds, only the weighted fit over the same ranks gives the same slope."""
    z = cloud(count, dim)
    assert geometry.alpha_req(z)[0] == pytest.approx(oracles.alpha_req(z.numpy(), count - 1))


def test_alpha_req_needs_six_directions() -> None:
    assert all(math.isnan(value) for value in geometry.alpha_req(cloud(50, 5)))
    assert all(math.isnan(value) for value in geometry.alpha_req(torch.ones(50, 20)))


def test_lidar_is_the_rank_of_the_generalised_eigenvalues() -> None:
    views = cloud(30, 6)[None] + 0.3 * cloud(5 * 30, 6, 1).view(5, 30, 6)
    assert float(geometry.lidar(views)) == pytest.approx(oracles.lidar(views.numpy(), 1e-4))


def test_lidar_ignores_directions_in_which_images_do_not_differ() -> None:
    images = F.pad(cloud(200, 3), (0, 5))  # images differ in 3 of 8 directions, views in all
    views = images + 0.1 * cloud(10 * 200, 8, 1).view(10, 200, 8)
    assert float(geometry.lidar(views)) == pytest.approx(3, abs=0.4)
    assert float(geometry.lidar(views[:, :, :3])) == pytest.approx(3, abs=0.05)


def test_cka_sees_the_same_shape_turned_and_scaled_and_tells_others_apart() -> None:
    x = cloud(300, 6)
    turn = torch.linalg.qr(cloud(6, 6, 1))[0]
    assert geometry.cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert geometry.cka(x, 3 * x @ turn + 5, unbiased=True) == pytest.approx(1)
    other = cloud(300, 6, 2)
    assert abs(geometry.cka(x, other, unbiased=True)) < 0.02 < geometry.cka(x, other) + 0.02
    assert math.isnan(geometry.cka(x, torch.ones(300, 2)))


def test_unbiased_cka_is_the_u_statistic() -> None:
    x, y = cloud(7, 3), cloud(7, 4, 1)
    k, m = (x @ x.T).numpy(), (y @ y.T).numpy()
    hsic = oracles.hsic_unbiased
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert geometry.cka(x, y, unbiased=True) == pytest.approx(expected)


def test_wide_features_look_alike_to_cka_unless_it_is_unbiased() -> None:
    x, y = cloud(20, 500), cloud(20, 500, 1)
    assert geometry.cka(x, y) > 0.9
    assert abs(geometry.cka(x, y, unbiased=True)) < 0.3


def test_a_simplex_of_points_is_full_neural_collapse_in_full_use_of_its_directions() -> None:
    y = torch.arange(10).repeat(20)
    x = simplex(10, 32)[y]
    clusters = _classes.Clusters.of(x, y)
    assert clusters.nc1() == pytest.approx(0, abs=1e-12)
    assert list(clusters.nc2().values()) == pytest.approx([0, 0, 0], abs=1e-7)
    assert clusters.nc3(5 * simplex(10, 32)) == pytest.approx(0, abs=1e-7)
    assert clusters.nc3(-simplex(10, 32)) == pytest.approx(2)
    assert clusters.nc4(x, y) == 0
    assert clusters.nc4(x, (y + 1) % 10) == 1
    assert clusters.cdnv() == pytest.approx(0, abs=1e-12)
    assert clusters.directional_cdnv() == pytest.approx(0, abs=1e-12)
    assert _classes.class_separation(x, y) == pytest.approx(1)
    assert _classes.class_effective_rank(x, y) == pytest.approx(1, abs=1e-3)
    assert float(geometry.effective_rank(x)) == pytest.approx(9, abs=1e-3)


def test_orthonormal_class_means_are_a_simplex_about_their_centre() -> None:
    y = torch.arange(4).repeat(3)
    clusters = _classes.Clusters.of(torch.eye(6, dtype=torch.float64)[y], y)
    assert clusters.nc2()["nc2_simplex"] == pytest.approx(0, abs=1e-9)


def test_classes_that_mean_nothing_are_not_separated() -> None:
    x, y = sphere(4000, 16), torch.arange(4000) % 4
    assert _classes.class_separation(x, y) == pytest.approx(0, abs=0.01)
    assert _classes.Clusters.of(x, y).cdnv() > 100


def test_class_means_in_one_place_have_no_nc1() -> None:
    x, y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), torch.tensor([0, 0, 1, 1])
    assert math.isnan(_classes.Clusters.of(x, y).nc1())


def test_class_means_in_one_place_are_no_simplex() -> None:
    clusters = _classes.Clusters.of(torch.full((6, 3), 0.1), torch.arange(6) % 3)
    assert all(math.isnan(value) for value in clusters.nc2().values())


@pytest.mark.parametrize("distance", [1.0, 1e-1, 1e-3])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_close_rows_are_as_separated_as_far_ones(distance: float, kind: torch.dtype) -> None:
    """The cosine distance of rows that all have nearly one direction is lost in 1 - cos, and so is their CKA."""
    y = torch.arange(300) % 5
    spread = cloud(5, 6, 1)[y] + 0.5 * cloud(300, 6)
    spread[:, 0] = 0  # along the direction that all rows share, a difference is no angle
    point = torch.tensor([4.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    far, close = 1e-2 * spread + point, 1e-2 * distance * spread + point
    expected = _classes.class_separation(far, y)
    assert _classes.class_separation(close.to(kind), y) == pytest.approx(expected, rel=0.02)
    for unbiased in (False, True):
        assert geometry.cka(close.to(kind), spread, unbiased) == pytest.approx(1, abs=0.01)


def test_separation_is_that_of_mean_cosine_distances() -> None:
    x, y = cloud(40, 6), torch.arange(40) % 4
    u = F.normalize(x, dim=1)
    cosine = torch.tensor([[float((u[y == i] @ u[y == j].T).mean()) for i in range(4)] for j in range(4)])
    expected = 1 - (1 - float(cosine.diagonal().mean())) / (1 - float(cosine.mean()))
    for kind in (torch.float32, torch.float64):  # to the digits that tables show
        assert _classes.class_separation(x.to(kind), y) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("row", [[0.0, 0.0], [0.1, 0.3], [1e-30, 2e5]])
def test_equal_rows_have_no_cka_and_no_separation(row: list[float]) -> None:
    x, y = torch.tensor([row]).repeat(300, 1), torch.arange(300) % 7
    assert math.isnan(_classes.class_separation(x, y))
    for kind in (torch.float32, torch.float64):
        for unbiased in (False, True):
            assert math.isnan(geometry.cka(0.1 * x.to(kind), cloud(300, 3), unbiased))
            assert math.isnan(geometry.cka(cloud(300, 3), 0.1 * x.to(kind), unbiased))
    assert math.isnan(geometry.cka(torch.eye(5), cloud(5, 3), unbiased=True))  # all distances are equal


def test_one_row_has_no_pairs() -> None:
    assert float(geometry.uniformity(sphere(1, 4))) == 0
    assert math.isnan(geometry.wasserstein_uniformity(sphere(1, 4)))
    assert float(geometry.effective_rank(sphere(1, 4))) == pytest.approx(1)


def test_pairs_in_chunks_are_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    u = sphere(50, 4)
    whole = float(geometry.uniformity(u))
    for rows in (1, 7, 49, 50):
        monkeypatch.setattr(geometry, "CHUNK_ROWS", rows)
        assert float(geometry.uniformity(u)) == pytest.approx(whole)


def test_float32_gives_the_same_numbers() -> None:
    z, u = cloud(300, 20), sphere(300, 20)
    assert float(geometry.effective_rank(z.float())) == pytest.approx(float(geometry.effective_rank(z)), rel=1e-4)
    assert float(geometry.uniformity(u.float())) == pytest.approx(float(geometry.uniformity(u)), rel=1e-4)
    assert geometry.wasserstein_uniformity(u.float()) == pytest.approx(geometry.wasserstein_uniformity(u), abs=1e-6)
