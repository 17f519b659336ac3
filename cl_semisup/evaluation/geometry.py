from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from cl_semisup.evaluation import Features, ProbeResult
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class Geometry:
    """Effective rank, alignment, uniformity and spread of the test images' embeddings, on the unit sphere.

    `effective_rank`, `uniformity` and `spread` are of backbone features, `projection_effective_rank` and
    `projection_spread` of projections; no rank is centred. `alignment` is between two random views. `spread` is the
    mean standard deviation of a unit feature's coordinates times sqrt(F): 1 for uniform points, 0 for a single point.

    Source: Roy & Vetterli 2007; arXiv 2005.10242; spread as in arXiv 2011.10566, section 4.1
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
                "spread": float(geometry.spread(u)),
                "projection_spread": float(geometry.spread(w)),
            }
        )
