"""Budgets of labels and their draws."""

import numpy as np
import pytest

from cl_semisup.data import labels as label_sets
from cl_semisup.errors import InputError
from cl_semisup.scoring import draws
from cl_semisup.scoring.draws import Budget


def test_budgets_are_shares_or_numbers() -> None:
    assert draws.parse("1%") == draws.parse("0.01") == Budget(fraction=0.01)
    assert draws.parse("5/class") == Budget(per_class=5)
    assert str(Budget(fraction=0.01)) == "1 %"


@pytest.mark.parametrize("text", ["", "0", "101%", "2", "-1", "0/class", "x/class", "nan", "1.5/class"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^budgets: must be a share like 1% or 0.01, or a number like 5/class. Got"):
        draws.parse(text)


def test_draws_are_the_label_sets_of_runs_and_nested() -> None:
    labels = np.repeat(np.arange(4), 200)
    found = draws.draw_all(labels, None, 3, "digits")
    assert [(d[0].label, len(d), len(d[0].rows)) for d in found] == [
        ("1 a class", 3, 4), ("1 %", 3, 8), ("5 a class", 3, 20), ("10 a class", 3, 40), ("10 %", 3, 80), ("100 %", 1, 800),
    ]  # fmt: skip
    for small, large in zip(found, found[1:-1], strict=False):
        for a, b in zip(small, large, strict=False):
            assert set(a.rows) < set(b.rows)
    subset = label_sets.draw(labels, "digits", 2, fraction=0.1)
    assert found[4][2].fingerprint == subset.fingerprint
    np.testing.assert_array_equal(found[4][2].rows, np.flatnonzero(subset.visible_labels >= 0))


def test_budgets_with_the_same_label_sets_are_one() -> None:
    found = draws.draw_all(np.repeat(np.arange(4), 100), None, 2, "f")
    assert [d[0].label for d in found] == ["1 a class, 1 %", "5 a class", "10 a class, 10 %", "100 %"]


def test_default_budgets_fit_the_smallest_class_and_asked_ones_must() -> None:
    labels = np.repeat([0, 1], [4, 100])
    assert [d[0].label for d in draws.draw_all(labels, None, 2, "f")] == ["1 a class, 1 %", "10 %", "100 %"]
    with pytest.raises(InputError, match="labels_per_class: must fit the data; class 0 has 4"):
        draws.draw_all(labels, [Budget(per_class=5)], 2, "f")


def test_unknown_labels_are_in_no_draw() -> None:
    labels = np.array([0, 1, -1] * 20)
    for drawn in draws.draw_all(labels, None, 2, "f"):
        for draw in drawn:
            assert (labels[draw.rows] >= 0).all()
    assert len(draws.draw_all(labels, None, 2, "f")[-1]) == 1
