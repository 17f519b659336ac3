from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from cl_semisup.evaluation import Features, ProbeResult
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class Geometry:
    """Effective rank, alignment, uniformity and feature std of the test images' embeddings, on the unit sphere.

    `effective_rank`, `uniformity` and `feature_std` are of backbone features, `projection_effective_rank` and
    `projection_feature_std` of projections; no rank is centred. `alignment` is between two random views. `feature_std`
    is the
    mean standard deviation of a unit feature's coordinates times sqrt(F): 1 for uniform points, 0 for a single point.

    Source: Roy & Vetterli 2007; arXiv 2005.10242; feature_std as in arXiv 2011.10566, section 4.1
    """

    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        u, w = F.normalize(features.test, dim=1), F.normalize(features.test_projections, dim=1)
        first, second = (F.normalize(view, dim=1) for view in features.test_views)
        return ProbeResult(
            diagnostics={
                "effective_rank": float(geometry.effective_rank(u)),
                "projection_effective_rank": float(geometry.effective_rank(w)),
                "alignment": float(geometry.alignment(first, second)),
                "uniformity": float(geometry.uniformity(u)),
                "feature_std": float(geometry.feature_std(u)),
                "projection_feature_std": float(geometry.feature_std(w)),
            }
        )
