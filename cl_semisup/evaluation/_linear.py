"""The tuned linear probe, fitted once however many probes ask for it."""

from cl_semisup.evaluation import Features, FeatureSet
from cl_semisup.measures.logistic import TunedProbe, tune
from cl_semisup.seeds import seed

VALIDATION = 0.2  # share of the training images held out by probes that have no setting for it


def tuned(
    embedded: Features, feature_set: FeatureSet, suffix: str, validation: float = VALIDATION, max_iterations: int = 1000
) -> TunedProbe | None:
    """The probe on all labels (suffix "") or those the run could see ("_labelled"); None where there is no label."""
    key = ("linear", feature_set.prefix, suffix, validation, max_iterations)
    if key not in embedded.memo:
        labels = dict(embedded.label_sets())[suffix]
        known = labels >= 0
        x, y, name = feature_set.train[known], labels[known], seed("validation", *embedded.seed_key)
        embedded.memo[key] = None
        if len(y):
            embedded.memo[key] = tune(
                x, y, embedded.classes, share=validation, seed=name, max_iterations=max_iterations
            )
    return embedded.memo[key]
