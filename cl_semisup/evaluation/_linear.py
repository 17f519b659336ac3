"""The tuned linear probe, fitted once however many probes ask for it."""

from cl_semisup.evaluation import Cloud, Embedded
from cl_semisup.measures.logistic import Tuned, tune
from cl_semisup.seeds import seed

VALIDATION = 0.2  # share of the training images held out by probes that have no setting for it


def tuned(
    embedded: Embedded, cloud: Cloud, suffix: str, validation: float = VALIDATION, max_iterations: int = 1000
) -> Tuned | None:
    """The probe on all labels (suffix "") or those the run could see ("_labelled"); None where there is no label."""
    key = ("linear", cloud.prefix, suffix, validation, max_iterations)
    if key not in embedded.memo:
        labels = dict(embedded.labellings())[suffix]
        known = labels >= 0
        x, y, name = cloud.train[known], labels[known], seed("validation", *embedded.names)
        embedded.memo[key] = None
        if len(y):
            embedded.memo[key] = tune(
                x, y, embedded.classes, share=validation, name=name, max_iterations=max_iterations
            )
    return embedded.memo[key]
