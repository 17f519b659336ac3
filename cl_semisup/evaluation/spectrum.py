from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Features, Layer, ProbeResult
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class Spectrum:
    """Dimensional collapse in numbers: how many directions the embeddings use, and how evenly; no labels are used.

    Of the training images' raw embeddings, evenly spaced ones: `rankme`, `alpha_req` with the fit's `alpha_req_r2`,
    and `variance`, the mean variance of a coordinate. Of test images on the unit sphere: `centred_effective_rank` and
    `wasserstein_uniformity` (0 for uniform points, 1 for a single one).

    Source: arXiv 2210.02885; Agrawal et al., NeurIPS 2022; arXiv 2405.18045
    Difference: None

    Args:
        images: at most so many training images; RankMe's authors take 25,600
        pairs_of: at most so many test images, evenly spaced, for the cosines of all pairs
        layer: backbone features, projections (names start with projection_), or both
    """

    images: Annotated[int, Interval(ge=2)] = 25_600
    pairs_of: Annotated[int, Interval(ge=2, le=20_000)] = 1000
    layer: Layer = "both"

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, embedded: Features) -> ProbeResult:
        found = ProbeResult()
        for feature_set in embedded.feature_sets(self.layer):
            z, u = _spaced(feature_set.train, self.images), F.normalize(feature_set.test, dim=1)
            alpha, fit = geometry.alpha_req(z)
            values = {
                "rankme": float(geometry.rankme(z)),
                "alpha_req": alpha,
                "alpha_req_r2": fit,
                "variance": float(z.var(dim=0, correction=0).mean()),
                "centred_effective_rank": float(geometry.effective_rank(u, centred=True)),
                "wasserstein_uniformity": geometry.wasserstein_uniformity(_spaced(u, self.pairs_of)),
            }
            found.diagnostics.update({feature_set.prefix + name: value for name, value in values.items()})
        return found


def _spaced(z: Tensor, most: int) -> Tensor:
    """At most `most` rows, evenly spaced: data sets may be sorted by class."""
    return z if len(z) <= most else z[torch.linspace(0, len(z) - 1, most, dtype=torch.float64).round().long()]
