"""What contrastive losses share: unit rows, identities, pairs of views, sums in log space, prototypes."""

from cl_semisup.contrast.pairs import (
    EPS,
    against_others,
    attraction,
    both,
    identities,
    logsumexp,
    mean,
    nothing,
    others,
    partners,
    same,
    squared_distances,
    unit,
)

__all__ = [
    "EPS",
    "against_others",
    "attraction",
    "both",
    "identities",
    "logsumexp",
    "mean",
    "nothing",
    "others",
    "partners",
    "same",
    "squared_distances",
    "unit",
]
