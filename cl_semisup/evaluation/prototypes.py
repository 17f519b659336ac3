from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from cl_semisup.evaluation import Features, ProbeResult, accuracy


@dataclass(frozen=True)
class Prototypes:
    """The network as a classifier by itself: the class whose mean direction is nearest, on the sphere of projections.

        class of q = argmax_c  u_q . m_c / |m_c|,   u unit rows of projections, m_c the mean of those of class c

    `prototype_top1`: means over every labelled training image of the run; `prototype_top1_labelled`: over those whose
    label was visible to the run. A class without a label is never predicted. Nothing is trained. `nearest_mean`
    differs: it measures distances to means that are not scaled to the sphere, on backbone features unless told
    otherwise.

    Source: arXiv 2605.20302, which reads contrastive losses as classifiers with class means as weights
    Difference: means over the training images without augmentation
    """

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("prototype_top1", "prototype_top1_labelled")

    def measure(self, features: Features) -> ProbeResult:
        scores = {}
        for data in features.classifier_data("projections"):
            present, members = data.labels.unique(return_inverse=True)
            sums = data.train.new_zeros(len(present), data.train.shape[1])
            sums.index_add_(0, members, F.normalize(data.train, dim=1))
            cosines = F.normalize(data.test, dim=1) @ F.normalize(sums, dim=1).T  # (T, C')
            predictions: torch.Tensor = present[cosines.argmax(dim=1)]
            scores[f"prototype_top1{data.suffix}"] = accuracy(predictions, features.test_labels)
        return ProbeResult(scores)
