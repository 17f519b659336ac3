from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.evaluation import Features, Layer, ProbeResult, accuracy


@dataclass(frozen=True)
class NearestMean:
    """Nearest-class-mean accuracy on the unit sphere: the simplest probe that works from one label a class.

        class of q = argmin_c |u_q - m_c|,   m_c the mean of the unit rows of class c

    `nearest_mean_top1`: means over every labelled training image of the run; `nearest_mean_top1_labelled`: over those
    whose label was visible to the run. A class without a label is never predicted.

    Source: NCCC of arXiv 2112.15121, on unit rows
    Difference: None

    Args:
        layer: backbone features, projections (scores start with projection_), or both
    """

    layer: Layer = "features"

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = (
        "nearest_mean_top1",
        "nearest_mean_top1_labelled",
        "projection_nearest_mean_top1",
        "projection_nearest_mean_top1_labelled",
    )

    def measure(self, features: Features) -> ProbeResult:
        scores = {}
        for data in features.classifier_data(self.layer):
            predictions = _nearest(data.test, data.train, data.labels)
            scores[data.name("nearest_mean_top1")] = accuracy(predictions, features.test_labels)
        return ProbeResult(scores)


def _nearest(queries: Tensor, bank: Tensor, labels: Tensor) -> Tensor:
    """(Q,) the class of the nearest mean; of equal distances the lowest class wins."""
    present, members = labels.unique(return_inverse=True)
    sums = bank.new_zeros(len(present), bank.shape[1]).index_add_(0, members, F.normalize(bank, dim=1))
    means = sums / torch.bincount(members)[:, None]  # (C', F)
    u = F.normalize(queries, dim=1)
    distances = means.square().sum(dim=1) - 2 * u @ means.T  # |u - m|^2 less the constant |u|^2
    return present[distances.argmin(dim=1)]
