"""What is wrong with features is told."""

import numpy as np
import pytest

from cl_semisup.scoring import inspection
from cl_semisup.scoring.feature_file import StoredFeatures, from_arrays

RANDOM = np.random.default_rng(0)
MEANS = 3 * RANDOM.normal(size=(5, 16))
LABELS = np.arange(600) % 5
X = (MEANS[LABELS] + RANDOM.normal(size=(600, 16))).astype(np.float32)


def stored(train=X[:400], train_labels=LABELS[:400], test=X[400:], test_labels=LABELS[400:]) -> StoredFeatures:  # type: ignore[no-untyped-def]
    return from_arrays("f", {"train": train, "train_labels": train_labels, "test": test, "test_labels": test_labels})


def test_nothing_is_said_of_sound_features() -> None:
    assert inspection.inspect(stored()) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_test_rows_that_are_training_rows_are_counted(dtype: type) -> None:
    test = X[400:].astype(dtype)
    test[[3, 8]] = X[[0, 0]].astype(dtype)
    (told,) = inspection.inspect(stored(train=X[:400].astype(dtype), test=test))
    assert told.startswith("2 rows: 3, 8 of the test part are also training rows")


@pytest.mark.parametrize(("part", "word"), [("train", "training"), ("test", "test")])
def test_shuffled_labels_of_a_part_are_told(part: str, word: str) -> None:
    labels = LABELS[:400] if part == "train" else LABELS[400:]
    shuffled = np.random.default_rng(1).permutation(labels)
    (told,) = inspection.inspect(stored(**{f"{part}_labels": shuffled}))
    assert told.startswith(f"Rows and labels of the {word} part do not belong together")


def test_classes_that_are_numbered_otherwise_are_told() -> None:
    (told,) = inspection.inspect(stored(test_labels=(LABELS[400:] + 1) % 5))
    assert told.startswith("The parts do not fit each other")


def test_labels_at_chance_in_both_parts_are_told() -> None:
    """Of features without information and of two shuffled parts the same is seen, and neither is claimed."""
    random = np.random.default_rng(2)
    noise = random.normal(size=(600, 16)).astype(np.float32)
    labels = random.permutation(LABELS[:400]), random.permutation(LABELS[400:])
    for features in (stored(noise[:400], test=noise[400:]), stored(train_labels=labels[0], test_labels=labels[1])):
        (told,) = inspection.inspect(features)
        assert told.startswith("Labels are at chance (neighbours share the label in ")
        assert told.endswith("know nothing of these labels, or the rows of both parts are in another order.")


def test_a_column_that_counts_the_rows_is_told() -> None:
    x = X.copy()
    x[:, 9] = np.linspace(-1, 1, 600)
    told = inspection.inspect(stored(train=x[:400], test=x[400:]))
    assert told == ["1 of 16 columns grow from row to row (column 9): is that an index, and no feature?"]


def test_constant_columns_zeros_and_norms_are_told() -> None:
    x = X.copy()
    x[:100] *= 1000
    x[:, 3] = 2
    x[450] = 0
    told = " ".join(inspection.inspect(stored(train=x[:400], test=x[400:])))
    assert "1 of 16 columns are constant in the training part." in told
    assert "1 row: 50 of the test part are all zeros" in told
    assert "Norms of the training part differ by orders of magnitude" in told
    assert "Norms differ between the parts" in " ".join(inspection.inspect(stored(test=10 * X[400:])))


def test_classes_that_a_part_lacks_are_named() -> None:
    few = LABELS[400:] < 4
    (told,) = inspection.inspect(stored(test=X[400:][few], test_labels=LABELS[400:][few]))
    assert told == "1 of 5 classes have no test rows (4): they count in no score."
    few = LABELS[:400] > 0
    (told,) = inspection.inspect(stored(train=X[:400][few], train_labels=LABELS[:400][few]))
    assert told == "1 of 5 classes have no training rows (0): never right."
