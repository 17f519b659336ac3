from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch.nn.functional as F
from annotated_types import Interval
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cl_semisup.evaluation import Features, Layer, ProbeResult
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class KMeans:
    """k-means on the test images' unit rows with as many clusters as classes, matched to the classes afterwards.

    `kmeans_accuracy` is the accuracy under the best one-to-one matching of clusters and classes (Hungarian method),
    `kmeans_nmi` the normalised mutual information, I / mean(H(clusters), H(classes)). The clustering uses no labels.
    `kmeans_ari`, the adjusted Rand index, is a diagnostic, since it can be negative.
    With fewer test images than classes every image is its own cluster.

    Source: clustering by scikit-learn's KMeans (k-means++, Lloyd); accuracy as in arXiv 1511.06335
    Difference: None

    Args:
        starts: k-means runs from so many first centres; the tightest clustering counts
        layer: backbone features, projections (scores start with projection_), or both
    """

    starts: Annotated[int, Interval(ge=1, le=1000)] = 10
    layer: Layer = "features"

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = (
        "kmeans_accuracy",
        "kmeans_nmi",
        "projection_kmeans_accuracy",
        "projection_kmeans_nmi",
    )

    def measure(self, features: Features) -> ProbeResult:
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        truth = features.test_labels.cpu().numpy()
        scores, diagnostics = {}, {}
        for feature_set in features.feature_sets(self.layer):
            u = F.normalize(feature_set.test, dim=1).cpu().numpy()
            clusters = self._clusters(u, features.classes, features.seed_key)
            scores[f"{feature_set.prefix}kmeans_accuracy"] = matched_accuracy(clusters, truth)
            scores[f"{feature_set.prefix}kmeans_nmi"] = float(normalized_mutual_info_score(truth, clusters))
            diagnostics[f"{feature_set.prefix}kmeans_ari"] = float(adjusted_rand_score(truth, clusters))
        return ProbeResult(scores, diagnostics)

    def _clusters(self, u: NDArray[np.float32], classes: int, seed_key: tuple[object, ...]) -> NDArray[np.int64]:
        import warnings

        from sklearn.cluster import KMeans as Clustering
        from sklearn.exceptions import ConvergenceWarning

        rng_seed = seed("kmeans", *seed_key) % 2**32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters is no error
            return Clustering(min(classes, len(u)), n_init=self.starts, random_state=rng_seed).fit_predict(u)


def matched_accuracy(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Share of images whose cluster is matched to their class, under the best one-to-one matching."""
    size = max(clusters.max(), labels.max()) + 1
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))
