"""The data of a report's plots: test features, and test projections with the prototypes of the loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cl_semisup import losses
from cl_semisup.evaluation import Features
from cl_semisup.execution import embedding_plot
from cl_semisup.execution.execute import Executor, Machine
from cl_semisup.suite.suite import Suite

CLASSES, IMAGES, DIM = 4, 40, 6


@pytest.fixture
def features() -> Features:
    random = torch.Generator().manual_seed(0)

    def rows(width: int) -> torch.Tensor:
        return torch.randn(IMAGES, width, generator=random)

    labels = torch.arange(IMAGES) % CLASSES
    return Features(
        train=rows(8),
        test=rows(8),
        train_projections=rows(DIM),
        test_projections=rows(DIM),
        train_labels=labels,
        test_labels=labels,
        visible_labels=labels,
        test_views=(rows(8), rows(8)),
        classes=CLASSES,
        seed_key=("made", 0),
    )


def unit(rows: Any) -> np.ndarray:
    return np.asarray(rows, dtype=float) / np.linalg.norm(rows, axis=1, keepdims=True)


def test_prototypes_have_the_right_place_among_the_projections(features: Features) -> None:
    """Compared by distances in the plane of the two principal directions, which do not depend on their signs."""
    loss = losses.build("clop", dim=DIM, classes=CLASSES)
    picture = embedding_plot.plot_data(features, loss)["projection_picture"]
    rows = unit(features.test_projections.numpy())
    prototypes = unit(loss.prototypes.numpy())  # type: ignore[attr-defined]
    covariance = np.cov(rows.T)
    directions = np.linalg.eigh(covariance)[1][:, -2:]
    assert picture["prototypes"]["label"] == list(range(CLASSES))
    plotted = np.array([picture["prototypes"]["x"], picture["prototypes"]["y"]]).T
    images = np.array([picture["x"], picture["y"]]).T
    for i in range(CLASSES):
        expected = np.linalg.norm((rows - prototypes[i]) @ directions, axis=1)
        assert np.linalg.norm(images - plotted[i], axis=1) == pytest.approx(expected, abs=2e-3)


def test_features_are_plotted_for_every_loss_and_projections_only_with_prototypes(features: Features) -> None:
    for loss in (None, losses.build("nt_xent")):
        plots = embedding_plot.plot_data(features, loss)
        assert plots.keys() == {"singular_values", "picture"}
        assert plots["picture"]["label"] == features.test_labels.tolist()


def test_prototypes_that_belong_to_no_class_have_no_label(features: Features) -> None:
    loss = losses.build("swav", dim=DIM, classes=CLASSES, images=IMAGES, prototypes=CLASSES)
    assert embedding_plot.plot_data(features, loss)["projection_picture"]["prototypes"]["label"] == [-1] * CLASSES


def test_a_run_keeps_the_prototypes_of_its_loss(parse: Callable[[str], Suite], text: str) -> None:
    (run,) = (run for run in parse(text).runs if run.loss_name == "clop")
    _, curves = Executor(Machine("cpu", "data"))(run)
    assert curves["projection_picture"]["prototypes"]["label"] == list(range(10))
    assert all(np.isfinite(curves["projection_picture"][key]).all() for key in ("x", "y"))
