"""The tuned linear probe, fitted once for all probes that use it."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from cl_semisup.evaluation import Features, FeatureSet, ProbeResult
from cl_semisup.measures.logistic import TunedProbe, tune
from cl_semisup.seeds import seed

VALIDATION = 0.2  # share of the training images held out by probes that have no setting for it


def tuned(
    features: Features,
    feature_set: FeatureSet | None = None,
    suffix: str = "",
    validation: float = VALIDATION,
    max_iterations: int = 1000,
) -> TunedProbe | None:
    """The probe on all labels (suffix "") or the visible ones ("_labelled"); None where there is no label.

    Without `feature_set` it is fitted on backbone features.
    """
    if feature_set is None:
        (feature_set,) = features.feature_sets("features")
    key = ("linear", feature_set.prefix, suffix, validation, max_iterations)
    if key not in features.memo:
        labels = dict(features.label_sets())[suffix]
        known = labels >= 0
        x, y, name = feature_set.train[known], labels[known], seed("validation", *features.seed_key)
        options: dict[str, Any] = dict(share=validation, seed=name, max_iterations=max_iterations)
        features.memo[key] = tune(x, y, features.classes, **options) if len(y) else None
    return features.memo[key]


def robustness(features: Features, score: str, variants: Iterable[tuple[str, Tensor]]) -> ProbeResult:
    """Accuracy of the tuned probe on variants (T, F) of the test features, and the mean of all as `score`.

    `variants` are pairs of a diagnostic's name and its features. Without any label the result is empty.
    """
    probe = tuned(features)
    if probe is None:
        return ProbeResult()
    top1 = {name: probe.probe.accuracy(test, features.test_labels) for name, test in variants}
    return ProbeResult({score: sum(top1.values()) / len(top1)}, top1)
