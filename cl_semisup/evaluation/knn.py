from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt, Interval

from cl_semisup.evaluation import Features, Layer, ProbeResult, _neighbours, accuracy


@dataclass(frozen=True)
class KNN:
    """Weighted k-nearest-neighbour accuracy on frozen embeddings, cosine similarity.

        class of q = argmax_c  sum over the k most similar bank images i of class c of exp(s_qi / t)

    `knn_top1`: the bank is every labelled training image of the run; `knn_top1_labelled`: only those whose label the
    run could see. Without any label there is no score.

    Source: arXiv 1805.01978, section 3.4; k and t as in lightly's benchmarks
    Difference: None

    Args:
        k: neighbours, capped by the size of the bank
        temperature: t, > 0
        layer: backbone features, projections (scores start with projection_), or both
    """

    k: Annotated[int, Interval(ge=1, le=100_000)] = 200
    temperature: Annotated[float, Gt(0)] = 0.1
    layer: Layer = "features"

    scores: ClassVar[tuple[str, ...]] = (
        "knn_top1",
        "knn_top1_labelled",
        "projection_knn_top1",
        "projection_knn_top1_labelled",
    )

    def measure(self, embedded: Features) -> ProbeResult:
        found = ProbeResult()
        for feature_set in embedded.feature_sets(self.layer):
            for suffix, labels in embedded.label_sets():
                known = labels >= 0
                if not bool(known.any()):
                    continue
                bank, of_bank = feature_set.train[known], labels[known]
                said = _neighbours.predict(
                    feature_set.test, bank, of_bank, embedded.classes, k=self.k, temperature=self.temperature
                )
                found.scores[f"{feature_set.prefix}knn_top1{suffix}"] = accuracy(said, embedded.test_labels)
        return found
