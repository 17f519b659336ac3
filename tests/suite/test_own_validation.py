"""`validation: own` in a suite is `val: validate` of its data sets: the same runs, with the same ids."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cl_semisup.errors import SuiteError
from cl_semisup.suite import suite


@pytest.fixture
def ids(text: str, tmp_path: Path) -> Callable[[str], list[str]]:
    """The ids of the runs of a suite with these lines."""
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    parts = {f"{part}_images": images for part in ("train", "val", "test")}
    np.savez(tmp_path / "x.npz", **parts, **{f"{part}_labels": np.arange(24) % 2 for part in ("train", "val", "test")})
    small = text.replace("batch_size: 128", "batch_size: 8").replace("datasets: digits\n", "")
    small = re.sub("label_fraction: .*\n", "", small)

    def read(lines: str) -> list[str]:
        return sorted(run.id for run in suite.parse(small + lines, "s.yaml", str(tmp_path)).runs)

    return read


def test_own_is_the_validation_part_of_the_data_set(ids: Callable[[str], list[str]]) -> None:
    own = ids("datasets: {arrays: {file: x.npz}}\nvalidation: own\n")
    assert own == ids("datasets: {arrays: {file: x.npz, val: validate}}\n")
    held_out = ids("datasets: {arrays: {file: x.npz}}\n")
    assert not set(own) & set(held_out)
    assert set(ids("datasets: {arrays: {file: x.npz}}\nvalidation: [own, held_out]\n")) == {*own, *held_out}


def test_an_own_validation_part_holds_out_no_training_image(ids: Callable[[str], list[str]]) -> None:
    lines = "datasets: {arrays: {file: x.npz}}\nlabels_per_class: 12\n"
    assert ids(lines + "validation: own\n")
    with pytest.raises(SuiteError, match="the smallest has 11 training images beside those held out"):
        ids(lines)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        ("digits", "Got digits, which has none. Write `held_out`."),
        ("{arrays: {file: x.npz, val: merge}}", "Got arrays with `val: merge`. Write `held_out`."),
    ],
)
def test_data_without_a_validation_part_have_no_own(data: str, got: str, ids: Callable[[str], list[str]]) -> None:
    with pytest.raises(SuiteError) as caught:
        ids(f"datasets: {data}\nvalidation: own\n")
    assert f": validation: own needs a data set with a validation part. {got}" in str(caught.value)
