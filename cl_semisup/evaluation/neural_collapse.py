from dataclasses import dataclass
from typing import ClassVar

import torch

from cl_semisup.evaluation import Features, Layer, ProbeResult, _classes
from cl_semisup.measures.logistic import SoftmaxRegression

STRENGTH = 1e-4  # weight penalty of the linear head of NC3 and NC4; weak, so that the head can follow the means


@dataclass(frozen=True)
class NeuralCollapse:
    """Neural collapse: how close the training images of each class are to one point, and the class means to a simplex.

    `nc1`: spread within classes over spread between them; `nc2_norm`, `nc2_angle`, `nc2_simplex`: differences of the
    class means' lengths and angles from those of a simplex; `nc3`: distance of a linear head from the means; `nc4`:
    share of images for which head and nearest mean disagree. `cdnv` and `directional_cdnv`: variance of classes over
    the distance of their means, in all directions and along the line between them. `class_separation`: share of cosine
    distance that lies between classes, in [0, 1]. `class_effective_rank`: mean effective rank within a class, centred.

    Full collapse is 1 for class_separation and class_effective_rank, and 0 for all others. More collapse is not better:
    it tends to harm transfer. It differs from dimensional collapse, since C - 1 directions are in full use (see
    `effective_rank`). Classes with fewer than two training images are left out; with fewer than two classes nothing is
    measured.

    Source: arXiv 2008.08186; 2112.15121; 2010.16402. The head of NC3 and NC4 is a linear probe, because a contrastive
    run has none
    Difference: class means have equal weights, also if classes differ in size. nc3 is the distance; the source plots
    its square. The standard deviation in nc2_norm divides by C, that in the source's code by C - 1, so nc2_norm times
    sqrt(C / (C - 1)) is the source's

    Args:
        layer: backbone features, projections (names start with projection_), or both
    """

    layer: Layer = "features"

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        labels = features.train_labels
        counts = torch.bincount(labels[labels >= 0], minlength=features.classes)
        used = (labels >= 0) & (counts >= 2)[labels.clamp(min=0)]
        present, y = labels[used].unique(return_inverse=True)
        diagnostics: dict[str, float] = {}
        if len(present) < 2:
            return ProbeResult()
        for feature_set in features.feature_sets(self.layer):
            x = feature_set.train[used]
            probe = SoftmaxRegression.fit(x, y, len(present), STRENGTH)
            weight = probe.weight / probe.scale  # on raw features; constant ones weigh 0
            predictions = probe.logits(x).argmax(dim=1)
            clusters = _classes.Clusters.of(x, y)
            values = {
                "nc1": clusters.nc1(),
                **clusters.nc2(),
                "nc3": clusters.nc3(weight),
                "nc4": clusters.nc4(x, predictions),
                "cdnv": clusters.cdnv(),
                "directional_cdnv": clusters.directional_cdnv(),
                "class_separation": _classes.class_separation(x, y),
                "class_effective_rank": _classes.class_effective_rank(x, y),
            }
            diagnostics.update({feature_set.prefix + name: value for name, value in values.items()})
        return ProbeResult(diagnostics=diagnostics)
