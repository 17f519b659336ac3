from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch.nn.functional as F
from annotated_types import Interval

from cl_semisup.evaluation import Features, Layer, ProbeResult, evenly
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class Spectrum:
    """Dimensional collapse: how many directions the embeddings use, and how evenly; no labels are used.

    Of raw embeddings of evenly spaced training images: `rankme`, `alpha_req` with the fit's `alpha_req_r2`, and
    `variance`, the mean variance of a coordinate. Of test images on the unit sphere: `centred_effective_rank` and
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

    def measure(self, features: Features) -> ProbeResult:
        diagnostics = {}
        for feature_set in features.feature_sets(self.layer):
            train, u = feature_set.train, F.normalize(feature_set.test, dim=1)
            z = train[evenly(len(train), self.images)]
            alpha, fit = geometry.alpha_req(z)
            values = {
                "rankme": float(geometry.rankme(z)),
                "alpha_req": alpha,
                "alpha_req_r2": fit,
                "variance": float(z.var(dim=0, correction=0).mean()),
                "centred_effective_rank": float(geometry.effective_rank(u, centred=True)),
                "wasserstein_uniformity": geometry.wasserstein_uniformity(u[evenly(len(u), self.pairs_of)]),
            }
            diagnostics.update({feature_set.prefix + name: value for name, value in values.items()})
        return ProbeResult(diagnostics=diagnostics)
