from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.evaluation import Features, Layer, ProbeResult

CHUNK = 512  # queries at once: bounds memory to CHUNK x T similarities and their order


@dataclass(frozen=True)
class Retrieval:
    """Retrieval among the test images, cosine similarity: each is a query, all others are searched for its class.

        precision_at_1   share of queries whose nearest image is of their class
        r_precision      mean over queries of  (images of the class among the R nearest) / R
        map_at_r         mean over queries of  1/R sum_{i <= R} precision(i) [the i-th nearest is of the class]

    R is the number of other test images of the query's class; a query with R = 0 is left out. precision(i) is the share
    of the class among the i nearest. No label is used to compute features or similarities, so nothing is trained.

    Source: arXiv 2003.08505, section 2 (R-precision and MAP@R); values as by pytorch-metric-learning's
        AccuracyCalculator
    Difference: its embeddings are those of a data set with other classes than the training set

    Args:
        layer: backbone features, projections (scores start with projection_), or both
    """

    layer: Layer = "features"

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = (
        "retrieval_precision_at_1",
        "retrieval_r_precision",
        "retrieval_map_at_r",
        "projection_retrieval_precision_at_1",
        "projection_retrieval_r_precision",
        "projection_retrieval_map_at_r",
    )

    def measure(self, features: Features) -> ProbeResult:
        result = ProbeResult()
        for feature_set in features.feature_sets(self.layer):
            means = retrieve(feature_set.test, features.test_labels)
            result.scores.update({f"{feature_set.prefix}retrieval_{name}": value for name, value in means.items()})
        return result


def retrieve(x: Tensor, labels: Tensor) -> dict[str, float]:
    """The three means over (T, F) embeddings with (T,) labels; empty if no image has another one of its class."""
    u = F.normalize(x, dim=1)
    relevant = torch.bincount(labels)[labels] - 1  # (T,) R of every query
    widest = int(relevant.max())
    if widest == 0:
        return {}
    totals = torch.zeros(3, dtype=torch.float64)
    rank = torch.arange(1, widest + 1, device=x.device)
    for first in range(0, len(u), CHUNK):
        rows = torch.arange(first, min(first + CHUNK, len(u)), device=x.device)
        cosines = u[rows] @ u.T
        cosines[rows - first, rows] = -torch.inf  # an image does not find itself
        nearest = cosines.topk(widest, dim=1).indices
        r = relevant[rows][:, None]
        hits = ((labels[nearest] == labels[rows][:, None]) & (rank <= r)).double().cpu()  # (q, R), those up to R
        count = r[:, 0].cpu().clamp(min=1)
        precision = hits.cumsum(dim=1) / rank.cpu()
        totals += torch.stack([
            hits[:, 0].sum(), (hits.sum(dim=1) / count).sum(), ((hits * precision).sum(dim=1) / count).sum()
        ])  # fmt: skip
    means = (totals / int((relevant > 0).sum())).tolist()
    return dict(zip(("precision_at_1", "r_precision", "map_at_r"), means, strict=True))
