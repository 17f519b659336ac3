"""Parts of the training images: increments of classes, and clients with unlike classes."""

from typing import Any

import numpy as np
import pytest

from cl_semisup.data import scenario

LABELS = np.concatenate([np.arange(600) % 6, np.full(9, -1)])
CLIENTS: dict[str, Any] = {"clients": 3, "alpha": 1.0}


def _parts(setting: dict[str, Any], repetition: int = 0) -> list[Any]:
    return scenario.parts(LABELS, 6, setting, "digits", repetition)


@pytest.mark.parametrize("setting", [{"increments": 4}, CLIENTS, {"clients": 5, "alpha": 0.05}])
def test_every_image_is_in_one_part_and_the_parts_depend_on_names_alone(setting: dict[str, Any]) -> None:
    parts = _parts(setting)
    assert sorted(np.concatenate(parts).tolist()) == list(range(609))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert all((a == b).all() for a, b in zip(parts, _parts(setting), strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(parts, _parts(setting, 1), strict=True))
    unknown = [int((LABELS[part] < 0).sum()) for part in parts]
    assert max(unknown) - min(unknown) <= 1


def test_increments_are_groups_of_classes_of_even_size_in_a_drawn_order() -> None:
    groups = scenario.groups(6, 4, "digits", 0)
    assert sorted(map(len, groups)) == [1, 1, 2, 2]
    assert sorted(c for group in groups for c in group) == list(range(6))
    assert groups != scenario.groups(6, 4, "digits", 1)
    for part, group in zip(_parts({"increments": 4}), groups, strict=True):
        assert set(LABELS[part].tolist()) - {-1} == set(group)


def test_a_small_alpha_gives_classes_to_one_client_and_a_large_one_spreads_them_evenly() -> None:
    def shares(alpha: float) -> Any:
        return np.array(
            [
                np.bincount(LABELS[part][LABELS[part] >= 0], minlength=6)
                for part in _parts({"clients": 3, "alpha": alpha})
            ]
        )

    assert abs(shares(1e6) - 100 / 3).max() <= 1
    assert shares(1e-3).max(axis=0).min() >= 95
    assert (shares(0.5).sum(axis=0) == 100).all()


def test_settings_that_say_nothing_are_no_part_of_a_run() -> None:
    whole = {"increments": 2, "clients": None, "alpha": 1.0, "rounds": None}
    assert scenario.used(whole) == {"increments": 2}
    assert scenario.used(whole | {"increments": None, "clients": 3}) == {"clients": 3, "alpha": 1.0}
