"""The synthetic data sets: fixed by their settings, as hard as `difficulty` says, and of the sizes in their facts."""

from pathlib import Path

import numpy as np
import pytest

from cl_semisup.data.images import Images
from cl_semisup.datasets.glyphs import Glyphs
from cl_semisup.datasets.subspaces import SCALE, Subspaces
from cl_semisup.errors import DataError

NOWHERE = Path("nowhere")


def nearest_neighbour_accuracy(images: Images) -> float:
    """1-NN on raw pixels."""
    train = images.train_images.reshape(len(images.train_images), -1).astype(float)
    test = images.test_images.reshape(len(images.test_images), -1).astype(float)
    distances = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    return float((images.train_labels[distances.argmin(1)] == images.test_labels).mean())


@pytest.mark.parametrize(
    "dataset", [Subspaces(), Subspaces(ambient=20, dimension=4, classes=7), Glyphs(), Glyphs(classes=30)]
)
def test_facts_are_true_and_the_same_names_give_the_same_images(dataset: Subspaces | Glyphs) -> None:
    first, again = dataset.load(NOWHERE), dataset.load(NOWHERE)
    assert first.facts() == dataset.facts(NOWHERE)
    assert first.content_hash == again.content_hash


def test_another_draw_gives_other_images() -> None:
    assert Subspaces(draw=1).load(NOWHERE).content_hash != Subspaces().load(NOWHERE).content_hash
    assert Glyphs(draw=1).load(NOWHERE).content_hash != Glyphs().load(NOWHERE).content_hash


def test_each_class_lies_in_a_subspace_of_its_dimension() -> None:
    dataset = Subspaces(ambient=16, dimension=3, classes=4, noise=0.0)
    images = dataset.load(NOWHERE)
    points = (images.train_images.reshape(-1, 16) - 127.5) / SCALE
    for label in range(4):
        values = np.linalg.svd(points[images.train_labels == label], compute_uv=False)
        assert values[2] > 20 * values[3]  # three directions, then rounding
    assert (np.linalg.norm(points, axis=1) < 1.03).all()


def test_a_subspace_that_is_everything_is_refused() -> None:
    with pytest.raises(DataError, match="dimension must be below ambient"):
        Subspaces(ambient=3, dimension=3).facts(NOWHERE)


def test_glyphs_without_difficulty_repeat_and_grow_harder_with_it() -> None:
    easy = Glyphs(difficulty=0.0).load(NOWHERE)
    assert len(np.unique(easy.train_images, axis=0)) == 10
    accuracies = [nearest_neighbour_accuracy(Glyphs(difficulty=d).load(NOWHERE)) for d in (0.0, 0.5, 1.0, 2.0)]
    assert accuracies[0] == 1.0
    assert accuracies == sorted(accuracies, reverse=True)
    assert 0.1 < accuracies[3] < accuracies[1]


def test_a_thousand_classes_of_glyphs_are_different_figures() -> None:
    images = Glyphs(classes=1000, per_class=5, difficulty=0.0).load(NOWHERE)
    assert len(np.unique(images.train_images[:1000], axis=0)) == 1000
