"""Data for a report's plots of a trained network: singular values, and test images on two principal directions."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cl_semisup import losses
from cl_semisup.evaluation import Features
from cl_semisup.measures import geometry

MAX_POINTS = 300  # of test images and of prototypes


def plot_data(features: Features, loss: Any) -> dict[str, Any]:
    """Singular values and a scatter plot of the normalized test features, rounded to 4 digits.

    If the loss has `prototypes` (K, D), a second plot shows them among the normalized test projections. Prototype c has
    the label c if the loss sees labels and has a prototype per class, otherwise -1.
    """
    test_features = normalize(features.test, dim=1)
    point_labels = features.test_labels[:MAX_POINTS].tolist()
    mean, directions = _principal_directions(test_features)
    plots = {
        "singular_values": _rounded(geometry.singular_values(test_features)),
        "picture": _coordinates(test_features[:MAX_POINTS], mean, directions) | {"label": point_labels},
    }
    prototypes = getattr(loss, "prototypes", None)
    width = features.test_projections.shape[1]
    if isinstance(prototypes, Tensor) and prototypes.ndim == 2 and prototypes.shape[1] == width:
        projections = normalize(features.test_projections, dim=1)
        mean, directions = _principal_directions(projections)
        rows = normalize(prototypes.detach()[:MAX_POINTS].to(projections), dim=1)
        one_per_class = losses.requirements_of(loss).labels and len(prototypes) == features.classes
        plots["projection_picture"] = {
            **_coordinates(projections[:MAX_POINTS], mean, directions),
            "label": point_labels,
            "prototypes": {
                **_coordinates(rows, mean, directions),
                "label": list(range(len(rows))) if one_per_class else [-1] * len(rows),
            },
        }
    return plots


def _principal_directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) of the rows and their two principal directions (2, D), or (1, D) if D or the row count is 1."""
    mean = rows.mean(dim=0)
    return mean, torch.linalg.svd(rows - mean, full_matrices=False)[2][:2]


def _coordinates(rows: Tensor, mean: Tensor, directions: Tensor) -> dict[str, list[float]]:
    plane = (rows - mean) @ directions.T  # (n, 2)
    return {"x": _rounded(plane[:, 0]), "y": _rounded(plane[:, 1]) if plane.shape[1] > 1 else []}


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{v:.4g}") for v in values.tolist()]
