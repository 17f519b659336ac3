from dataclasses import dataclass
from typing import ClassVar

from cl_semisup.evaluation import Features, ProbeResult, _neighbours, accuracy

PRESETS = {  # name -> (k, temperature, of projections)
    "lightly": (200, 0.1, False),
    "solo_learn": (20, 0.07, False),
    "clop_authors": (100, 0.1, True),
}


@dataclass(frozen=True)
class KNNPresets:
    """kNN accuracy under the settings that published numbers use, side by side; not comparable with each other.

    `lightly`: k = 200, t = 0.1, backbone features; `solo_learn`: k = 20, t = 0.07, backbone features, its offline
    evaluation; `clop_authors`: k = 100, t = 0.1, projections. The bank is every labelled training image of the run.

    Source: lightly's benchmarks; vturrisi/solo-learn; the code of arXiv 2403.18699
    Difference: clop_authors' bank is the last 2,048 augmented training images; lightly takes the best epoch on the test
        set, here it is the last
    """

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = tuple(f"knn_{name}_top1" for name in PRESETS)

    def measure(self, features: Features) -> ProbeResult:
        known = features.train_labels >= 0
        labels = features.train_labels[known]
        backbone, projections = features.feature_sets("both")
        scores = {}
        for name, (k, temperature, projected) in PRESETS.items() if len(labels) else ():
            feature_set = projections if projected else backbone
            bank = feature_set.train[known], labels, features.classes
            predictions = _neighbours.predict(feature_set.test, *bank, k=k, temperature=temperature)
            scores[f"knn_{name}_top1"] = accuracy(predictions, features.test_labels)
        return ProbeResult(scores)
