from dataclasses import dataclass
from typing import ClassVar

from cl_semisup.evaluation import Features, Layer, ProbeResult, _least_squares, accuracy
from cl_semisup.evaluation._least_squares import exact
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class Ridge:
    """Ridge regression to one-hot labels on standardised embeddings: a linear probe in closed form.

        W = (X^T X + l M I)^-1 X^T (Y - mean Y),   class of q = argmax_c (x_q W + mean Y)_c

    l is the best of 10, 1, ..., 1e-6 on a fifth of the training images (the largest of equals), then W is solved again
    on all of them. `ridge_top1_labelled` learns only from the labels that were visible to the run; if a class has a
    single label nothing can be held out and l = 0.01.

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

    def measure(self, features: Features) -> ProbeResult:
        result, rng_seed = ProbeResult(), seed("validation", *features.seed_key)
        for data in features.classifier_data(self.layer):
            x, q = _least_squares.standardised(exact(data.train), exact(data.test))
            solution, strength = _least_squares.tuned_ridge(x, data.labels, features.classes, rng_seed)
            predictions = solution(q).argmax(dim=1)
            result.scores[data.name("ridge_top1")] = accuracy(predictions, features.test_labels)
            result.diagnostics[data.name("ridge_strength")] = strength
        return result
