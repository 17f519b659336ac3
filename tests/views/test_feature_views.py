"""Views of features against plain loops over rows, with the same random numbers."""

import gc
import math
import weakref

import pytest
import torch
from torch import Tensor

from cl_semisup.data.views import Draw
from cl_semisup.views import neighbour_mixup
from cl_semisup.views.feature_dropout import FeatureDropout
from cl_semisup.views.feature_noise import FeatureNoise
from cl_semisup.views.neighbour_mixup import NeighbourMixup
from cl_semisup.views.stored_view import StoredView

ROWS, WIDTH = 9, 4


def data() -> Tensor:
    return torch.randn(ROWS, WIDTH, 1, 1, generator=torch.Generator().manual_seed(0))


def draw(view: int = 0, rows: Tensor | None = None, step: int = 1, stored: Tensor | None = None) -> Draw:
    index = torch.tensor([3, 0, 8, 3])
    seeded = torch.Generator().manual_seed(10 * step + view), torch.Generator().manual_seed(step)
    return Draw(seeded[0], index, data() if stored is None else stored, view, shared=seeded[1], rows=rows)


def test_noise_is_relative_to_the_deviation_of_a_column() -> None:
    stored = data()
    x = stored[[3, 0, 8, 3]]
    found = FeatureNoise(strength=0.5).view(x, draw(stored=stored))
    numbers = torch.randn(x.shape, generator=torch.Generator().manual_seed(10)).flatten().tolist()
    for at in range(x.numel()):
        row, column = divmod(at, WIDTH)
        values = stored[:, column, 0, 0].tolist()
        mean = sum(values) / ROWS
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / ROWS)
        expected = x[row, column].item() + 0.5 * deviation * numbers[at]
        assert found[row, column].item() == pytest.approx(expected, abs=1e-6)


def test_dropout_keeps_the_mean() -> None:
    x = data()[[3, 0, 8, 3]]
    found = FeatureDropout(probability=0.25).view(x, draw())
    numbers = torch.rand(x.shape, generator=torch.Generator().manual_seed(10)).flatten().tolist()
    expected = [value / 0.75 if u >= 0.25 else 0.0 for value, u in zip(x.flatten().tolist(), numbers, strict=True)]
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


def test_a_row_is_mixed_with_one_of_its_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in (2048, 4):
        stored = data()
        monkeypatch.setattr(neighbour_mixup, "CHUNK", chunk)
        x = stored[[3, 0, 8, 3]]
        found = NeighbourMixup(neighbours=2, strength=0.6).view(x, draw(stored=stored))
        random = torch.Generator().manual_seed(10)
        choices, shares = (torch.rand(4, generator=random).tolist() for _ in range(2))
        for at, row in enumerate([3, 0, 8, 3]):
            own = stored[row].flatten().tolist()
            cosines = []
            for other in range(ROWS):
                values = stored[other].flatten().tolist()
                norms = math.hypot(*own) * math.hypot(*values)
                cosines.append((-sum(a * b for a, b in zip(own, values, strict=True)) / norms, other))
            nearest = [other for _, other in sorted(cosines) if other != row][:2]
            partner = stored[nearest[int(2 * choices[at])]].flatten().tolist()
            share = 0.6 * shares[at]
            expected = [(1 - share) * a + share * b for a, b in zip(own, partner, strict=True)]
            assert found[at].flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_neighbours_are_computed_once_for_a_data_set_whose_memory_they_do_not_keep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, normalize = list[int](), neighbour_mixup.normalize
    monkeypatch.setattr(neighbour_mixup, "normalize", lambda x, dim: (calls.append(dim), normalize(x, dim=dim))[1])
    stored = data()
    for step in range(3):
        NeighbourMixup(neighbours=2).view(stored[[3, 0, 8, 3]], draw(step=step, stored=stored))
    assert len(calls) == 1
    NeighbourMixup(neighbours=3).view(stored[[3, 0, 8, 3]], draw(stored=stored))
    FeatureNoise().view(stored[[3, 0, 8, 3]], draw(stored=stored))
    assert len(calls) == 2
    memory = weakref.ref(stored)
    del stored
    gc.collect()
    assert memory() is None


def test_a_single_row_has_no_neighbour() -> None:
    x = data()[:1]
    alone = Draw(torch.Generator(), torch.tensor([0]), x, 0)
    assert torch.equal(NeighbourMixup().view(x, alone), x)


def test_of_two_stored_rows_each_view_has_its_own() -> None:
    rows = torch.randn(ROWS, 2, WIDTH)
    x = data()[[3, 0, 8, 3]]
    for view, column in ((0, 0), (1, 1), (2, 0)):
        found = StoredView().view(x, draw(view, rows))
        assert torch.equal(found[:, :, 0, 0], rows[[3, 0, 8, 3], column])


def test_of_more_stored_rows_the_views_of_a_step_are_distinct_and_random() -> None:
    rows = torch.arange(ROWS * 4.0).view(ROWS, 4, 1).expand(ROWS, 4, WIDTH)
    x, seen = data()[[3, 0, 8, 3]], set()
    for step in range(40):
        first, second = (StoredView().view(x, draw(view, rows, step))[:, 0, 0, 0] for view in (0, 1))
        assert (first // 4).tolist() == (second // 4).tolist() == [3, 0, 8, 3]  # rows of the image itself
        assert (first != second).all()
        seen |= set(zip((first % 4).tolist(), (second % 4).tolist(), strict=True))
    assert len(seen) == 4 * 3


def test_rows_without_stored_views_stay_as_they_are() -> None:
    x = data()[[3, 0, 8, 3]]
    assert torch.equal(StoredView().view(x, draw(1)), x)
