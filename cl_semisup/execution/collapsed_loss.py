"""The loss of a representation that has collapsed to one point: a number that a healthy run does not end at."""

import copy

import torch
from torch import Tensor

from cl_semisup import losses
from cl_semisup.losses import Loss

POINTS = 3  # points and batches tried: a value that depends on them is no chance level
SAME = 1e-3  # relative difference within which the values at these points are one number
BETTER = 0.02  # relative amount by which distinct images must beat a point, or ending near it tells nothing


@torch.no_grad()
def collapsed_loss_value(loss: Loss, visible_labels: Tensor, batch: int, dim: int, classes: int) -> float | None:
    """The loss of a batch whose projections are all the same unit vector and whose logits are all 0.

    `ln(2 N - 1)` for NT-Xent and SupCon, `ln C` for cross-entropy, and so on, found by asking the loss itself. None
    where the point or the batch matters, where a point is as good as distinct images (losses that only align), where
    the loss needs more than projections and logits, or cannot take a point.

    Args:
        visible_labels: (M,) labels that the run sees
        batch, dim, classes: N, D and C
    """
    asked = losses.asks(loss)
    needs = asked.needs
    if not set(needs) <= {"logits"} or asked.bound or asked.support:
        return None
    if asked.trains_on == "labelled":
        visible_labels = visible_labels[visible_labels >= 0]
    trial = copy.deepcopy(loss)  # losses may keep state
    generator = torch.Generator().manual_seed(0)

    def value(z: Tensor, labels: Tensor) -> float:
        logits = tuple(torch.zeros(len(z), classes, device=z.device) for _ in range(2))
        return float(trial(z, z, labels, **dict.fromkeys(needs, logits)))

    try:
        found = []
        for _ in range(POINTS):
            labels = visible_labels[
                torch.randint(len(visible_labels), (batch,), generator=generator).to(visible_labels.device)
            ]
            point = torch.nn.functional.normalize(torch.randn(1, dim, generator=generator), dim=1).to(
                visible_labels.device
            )
            found.append(value(point.expand(batch, dim).contiguous(), labels))
        ideal = torch.randn(classes + batch, dim, generator=generator).to(visible_labels.device)
        own = torch.arange(classes, classes + batch, device=visible_labels.device)
        distinct = value(ideal[torch.where(labels >= 0, labels, own)], labels)
    except RuntimeError:  # a singular matrix, say
        return None
    scale = max(1.0, abs(found[0]))
    if not max(found) - min(found) <= SAME * scale:  # also where one of them is NaN
        return None
    if not needs and not distinct < found[0] - BETTER * scale:
        return None
    return found[0]
