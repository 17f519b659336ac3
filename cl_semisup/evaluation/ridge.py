from dataclasses import dataclass
from typing import ClassVar

from cl_semisup.evaluation import Features, Layer, ProbeResult, _least_squares, accuracy
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class Ridge:
    """Ridge regression to one-hot labels on standardised embeddings: a linear probe in closed form.

        W = (X^T X + l M I)^-1 X^T (Y - mean Y),   class of q = argmax_c (x_q W + mean Y)_c

    l is the best of 10, 1, ..., 1e-6 on a fifth of the training images (the largest of equals), then W is solved again
    on all of them. `ridge_top1_labelled` knows only the labels that the run could see; with a single label in a class
    nothing can be held out and l = 0.01.

    Source: Hastie, Tibshirani & Friedman 2009, section 4.2
    Difference: None

    Args:
        layer: backbone features, projections (scores start with projection_), or both
    """

    layer: Layer = "features"

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = (
        "ridge_top1",
        "ridge_top1_labelled",
        "projection_ridge_top1",
        "projection_ridge_top1_labelled",
    )

    def measure(self, embedded: Features) -> ProbeResult:
        found = ProbeResult()
        for feature_set in embedded.feature_sets(self.layer):
            for suffix, labels in embedded.label_sets():
                known = labels >= 0
                if not bool(known.any()):
                    continue
                x, q = _least_squares.standardised(feature_set.train[known], feature_set.test)
                name = seed("validation", *embedded.seed_key)
                solved, strength = _least_squares.tuned_ridge(x, labels[known], embedded.classes, name)
                said = solved(q).argmax(dim=1)
                found.scores[f"{feature_set.prefix}ridge_top1{suffix}"] = accuracy(said, embedded.test_labels)
                found.diagnostics[f"{feature_set.prefix}ridge_strength{suffix}"] = strength
        return found
