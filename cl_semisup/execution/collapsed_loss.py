"""The value of a loss when all projections are the same point. A healthy run does not end at this value."""

import copy

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cl_semisup import losses
from cl_semisup.losses import Loss

TRIALS = 3  # random points and batches; the value must not depend on them
SAME_RTOL = 1e-3  # relative difference up to which values of several trials count as equal
MIN_IMPROVEMENT = 0.02  # relative amount by which distinct images must have a lower loss than a point


@torch.no_grad()
def collapsed_loss_value(loss: Loss, visible_labels: Tensor, batch: int, dim: int, classes: int) -> float | None:
    """The loss of a batch whose projections are all the same unit vector and whose logits are all 0.

    It is `ln(2 N - 1)` for NT-Xent and SupCon and `ln C` for cross-entropy, computed by calling the loss. None if the
    value depends on the point or the batch, if distinct images have no lower loss (losses that only align), if the loss
    needs more than projections and logits, or if it raises RuntimeError.

    Args:
        visible_labels: (M,) labels that the run may see
        batch, dim, classes: N, D and C
    """
    requirements = losses.requirements_of(loss)
    needs = requirements.needs
    if not set(needs) <= {"logits"} or requirements.bound or requirements.support:
        return None
    if requirements.trains_on == "labelled":
        visible_labels = visible_labels[visible_labels >= 0]
    loss = copy.deepcopy(loss)  # its state must not change
    device, generator = visible_labels.device, torch.Generator().manual_seed(0)

    def value(z: Tensor, labels: Tensor) -> float:
        logits = tuple(torch.zeros(len(z), classes, device=device) for _ in range(2))
        return float(loss(z, z, labels, **dict.fromkeys(needs, logits)))

    try:
        values = []
        for _ in range(TRIALS):
            labels = visible_labels[torch.randint(len(visible_labels), (batch,), generator=generator).to(device)]
            point = normalize(torch.randn(1, dim, generator=generator), dim=1).to(device)
            values.append(value(point.expand(batch, dim).contiguous(), labels))
        # Images of a class share a point; each unlabelled image has its own.
        points = torch.randn(classes + batch, dim, generator=generator).to(device)
        own_point = torch.arange(classes, classes + batch, device=device)
        distinct = value(points[torch.where(labels >= 0, labels, own_point)], labels)
    except RuntimeError:  # for example a singular matrix
        return None
    scale = max(1.0, abs(values[0]))
    if not max(values) - min(values) <= SAME_RTOL * scale:  # also if one of them is NaN
        return None
    if not needs and not distinct < values[0] - MIN_IMPROVEMENT * scale:
        return None
    return values[0]
