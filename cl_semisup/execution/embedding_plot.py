"""What a report draws of a trained network: singular values, and test images on two principal directions."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cl_semisup import losses
from cl_semisup.evaluation import Features
from cl_semisup.measures import geometry

POINTS = 300  # test images, and at most as many prototypes


def of(embedded: Features, loss: Any) -> dict[str, Any]:
    """Singular values and picture of the unit test features, rounded; all that a report draws is on the sphere.

    A loss with directions of its own lives among projections, so there is a second picture, of those and of its
    directions (attribute `prototypes`, (K, D)): row c belongs to class c if the loss is told labels, to none otherwise.
    """
    features = normalize(embedded.test, dim=1)
    visible_labels = embedded.test_labels[:POINTS].tolist()
    centre, directions = _principal(features)
    found = {
        "singular_values": _rounded(geometry.singular_values(features)),
        "picture": _flat(features[:POINTS], centre, directions) | {"label": visible_labels},
    }
    prototypes = getattr(loss, "prototypes", None)
    width = embedded.test_projections.shape[1]
    if isinstance(prototypes, Tensor) and prototypes.ndim == 2 and prototypes.shape[1] == width:
        projections = normalize(embedded.test_projections, dim=1)
        centre, directions = _principal(projections)
        rows = normalize(prototypes.detach()[:POINTS].to(projections), dim=1)
        of_class = losses.asks(loss).labels and len(prototypes) == embedded.classes
        found["projection_picture"] = {
            **_flat(projections[:POINTS], centre, directions),
            "label": visible_labels,
            "prototypes": {
                **_flat(rows, centre, directions),
                "label": list(range(len(rows))) if of_class else [-1] * len(rows),
            },
        }
    return found


def _principal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) of unit rows and their two principal directions (2, D); (1, D) where there is but one."""
    centre = rows.mean(dim=0)
    return centre, torch.linalg.svd(rows - centre, full_matrices=False)[2][:2]


def _flat(rows: Tensor, centre: Tensor, directions: Tensor) -> dict[str, list[float]]:
    flat = (rows - centre) @ directions.T  # (n, 2)
    return {"x": _rounded(flat[:, 0]), "y": _rounded(flat[:, 1]) if flat.shape[1] > 1 else []}


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{v:.4g}") for v in values.tolist()]
