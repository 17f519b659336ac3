from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Gt, Interval

from cl_semisup.evaluation import Features, Layer, ProbeResult, _neighbours, accuracy


@dataclass(frozen=True)
class KNN:
    """Weighted k-nearest-neighbour accuracy on frozen embeddings, cosine similarity.

        class of q = argmax_c  sum over the k most similar bank images i of class c of exp(s_qi / t)

    `knn_top1`: the bank is every labelled training image of the run; `knn_top1_labelled`: only those whose label
    was visible to the run. Without any label there is no score.

    Source: arXiv 1805.01978, section 3.4; k and t as in lightly's benchmarks
    Difference: None. stable-pretraining votes with 1 / (distance + t), which is another classifier

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

    def measure(self, features: Features) -> ProbeResult:
        result = ProbeResult()
        for data in features.classifier_data(self.layer):
            bank = data.train, data.labels, features.classes
            predictions = _neighbours.predict(data.test, *bank, k=self.k, temperature=self.temperature)
            result.scores[data.name("knn_top1")] = accuracy(predictions, features.test_labels)
            result.right[data.name("knn_top1")] = predictions == features.test_labels
        return result
