from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Interval

from cl_semisup.evaluation import Features, Layer, ProbeResult, _linear


@dataclass(frozen=True)
class Linear:
    """Linear probe on frozen embeddings: converged multinomial logistic regression.

        min over W, b of  mean_i -log softmax(W x_i + b)_{y_i} + s/2 |W|^2,   x standardised by the training features

    s is the best of 10, 1, ..., 1e-6 on a validation part of the training images (the strongest of equals), then the
    probe is fitted again on all of them. The test images are not used. `linear_top1` trains on every labelled training
    image of the run, `linear_top1_labelled` on those whose label was visible to the run; `linear_top1_validation` is
    the validation accuracy of the s of `linear_top1`, for tuning without the test set. If a class has a single labelled
    image nothing can be held out and s = 0.01. Without any label there is no score.

    Source: scikit-learn's LogisticRegression solves the same problem: C = 1 / (s M), and 2 / (s M) for two
    classes, where it has one weight vector and not two
    Difference: None

    Args:
        validation: share of the training images held out to choose s
        max_iterations: of L-BFGS; `linear_converged` says whether they were enough
        layer: backbone features, projections (scores start with projection_), or both
    """

    validation: Annotated[float, Interval(ge=0.05, le=0.5)] = 0.2
    max_iterations: Annotated[int, Interval(ge=1)] = 1000
    layer: Layer = "features"

    scores: ClassVar[tuple[str, ...]] = (
        "linear_top1",
        "linear_top1_labelled",
        "linear_top1_validation",
        "projection_linear_top1",
        "projection_linear_top1_labelled",
        "projection_linear_top1_validation",
    )

    def measure(self, features: Features) -> ProbeResult:
        result = ProbeResult()
        for feature_set in features.feature_sets(self.layer):
            for suffix, _ in features.label_sets():
                tuned = _linear.tuned(features, feature_set, suffix, self.validation, self.max_iterations)
                if tuned is None:
                    continue
                prefix, right = feature_set.prefix, tuned.probe.right(feature_set.test, features.test_labels)
                result.scores[f"{prefix}linear_top1{suffix}"] = float(right.double().mean())
                result.right[f"{prefix}linear_top1{suffix}"] = right
                result.diagnostics[f"{prefix}linear_strength{suffix}"] = tuned.strength
                result.diagnostics[f"{prefix}linear_converged{suffix}"] = float(tuned.probe.converged)
                if not suffix and tuned.validation is not None:
                    result.scores[f"{prefix}linear_top1_validation"] = tuned.validation
        return result
