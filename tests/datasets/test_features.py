"""Features as a data set: one file, its stored views, its content hash, and what is told when something is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_semisup.data.images import Images
from cl_semisup.datasets.features import Features
from cl_semisup.errors import DataError
from cl_semisup.results import data_hashes

ROOT = Path(__file__).parents[2]


def save(folder: Path, **changes: Any) -> Path:
    """12 and 4 rows of 5 features, 3 classes; `changes` replace arrays, None leaves one out."""
    random = np.random.default_rng(0)
    arrays = {
        "train": random.standard_normal((12, 5)).astype(np.float16),
        "train_labels": np.arange(12) % 3,
        "test": random.standard_normal((4, 5)).astype(np.float16),
        "test_labels": np.array([0, 1, 2, 0]),
    }
    np.savez(folder / "x.npz", **{key: array for key, array in (arrays | changes).items() if array is not None})
    return folder


def load(folder: Path, **settings: Any) -> Images:
    return Features("x.npz", **settings).load(folder)


def test_rows_are_images_of_one_pixel(tmp_path: Path) -> None:
    saved = dict(np.load(save(tmp_path) / "x.npz"))
    images = load(tmp_path)
    assert images.train_images.shape == (12, 5, 1, 1)
    assert images.train_images.dtype == np.float32
    np.testing.assert_array_equal(images.train_images[:, :, 0, 0], saved["train"].astype(np.float32))
    np.testing.assert_array_equal(images.test_images[:, :, 0, 0], saved["test"].astype(np.float32))
    assert images.class_names == ("0", "1", "2")
    assert images.train_rows is None


def test_facts_are_those_of_the_loaded_data(tmp_path: Path) -> None:
    for changes in ({}, {"train_view2": np.zeros((12, 5))}, {"train": np.zeros((12, 4, 5), np.float32)}):
        facts = Features("x.npz").facts(save(tmp_path, **changes))
        assert facts == load(tmp_path).facts()
        assert facts.inputs == "features"
    assert facts.rows == 4
    assert (facts.train, facts.test, facts.classes, facts.channels, facts.side) == (12, 4, 3, 5, 1)


def test_stored_views_are_the_defaults_where_there_are_some(tmp_path: Path) -> None:
    assert Features("x.npz").default_views(save(tmp_path)) == {"feature_noise": {}, "feature_dropout": {}}
    second = np.random.default_rng(1).standard_normal((12, 5))
    assert Features("x.npz").default_views(save(tmp_path, train_view2=second)) == {"stored_view": {}}
    images = load(tmp_path)
    assert images.train_rows is not None
    np.testing.assert_array_equal(images.train_rows[:, 0], images.train_images[:, :, 0, 0])
    np.testing.assert_array_equal(images.train_rows[:, 1], second.astype(np.float32))
    assert images.test_rows is None


def test_columns_are_standardized_as_scikit_learn_does(tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler, normalize

    rows = np.random.default_rng(2).standard_normal((12, 5)) * [1, 2, 3, 4, 0] + 7
    saved = dict(np.load(save(tmp_path, train=rows, train_view2=rows[::-1]) / "x.npz"))
    scaler = StandardScaler().fit(rows)
    images = load(tmp_path, standardize="columns")
    assert images.train_rows is not None
    np.testing.assert_allclose(images.train_images[:, :, 0, 0], scaler.transform(rows), atol=1e-5)
    np.testing.assert_allclose(images.train_rows[:, 1], scaler.transform(rows[::-1]), atol=1e-5)
    np.testing.assert_allclose(images.test_images[:, :, 0, 0], scaler.transform(saved["test"].astype(float)), atol=1e-4)
    unit = load(tmp_path, standardize="unit")
    np.testing.assert_allclose(unit.train_images[:, :, 0, 0], normalize(rows), atol=1e-6)


def test_the_hash_is_that_of_rows_labels_and_stored_views(tmp_path: Path) -> None:
    second = np.ones((12, 5))
    hashes = []
    for changes in ({}, {"train_view2": second}, {"train_view2": 2 * second}, {"test_labels": np.array([0, 1, 2, 1])}):
        save(tmp_path, **changes)
        hashes.append(data_hashes.current({"features": {"file": "x.npz", "standardize": "none"}}, str(tmp_path)))
    assert len(set(hashes)) == 4
    assert None not in hashes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"test": None, "test_labels": None},
            "must hold arrays train, train_labels, test, test_labels and, if you like",
        ),
        (
            {"train_view2": np.ones((11, 5))},
            "train must be (M, F), with train_view2 of the same shape, or (M, V, F) al",
        ),
        ({"test": np.ones((4, 6))}, "x.npz: train and test images differ: (5, 1, 1), (6, 1, 1)."),
        ({"train_labels": np.arange(11) % 3}, "x.npz: train: one label an image. Got (11,) labels, 12 images."),
        ({"test_labels": np.array([0, 1, 2, -1])}, "x.npz: test: labels must lie in 0..2. Got -1..2. Renumber them."),
        ({"train": np.full((12, 5), np.inf)}, "x.npz: train: must be finite in float32. Got 12 rows that are not"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load(save(tmp_path, **changes))
    assert message in str(caught.value)


def test_a_missing_file_and_a_path_outside_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="features: file: must be in .*. Got no file .*y.npz. Put a file there with arr"
    ):
        Features("y.npz").facts(tmp_path)
    with pytest.raises(DataError, match="features: file: must be a path inside data_dir. Got '../y.npz'."):
        Features("../y.npz").facts(tmp_path)


def test_the_features_that_come_along_are_whole() -> None:
    images = Features("docstrings.npz").load(ROOT / "suites" / "data")
    assert images.train_images.shape == (1256, 384, 1, 1)
    assert images.test_images.shape == (539, 384, 1, 1)
    assert len(images.class_names) == 20
    assert images.train_rows is not None
    np.testing.assert_allclose(np.linalg.norm(images.train_rows, axis=2), 1, atol=2e-3)
