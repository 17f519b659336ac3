from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Embedded, Measured
from cl_semisup.logistic import SoftmaxRegression, hold_out
from cl_semisup.seeds import seed

STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))  # weight penalties tried, strongest first
DEFAULT_STRENGTH = 1e-2  # where labels are too few to choose


@dataclass(frozen=True)
class Linear:
    """Linear probe on frozen backbone features: converged multinomial logistic regression.

        min over W, b of  mean_i -log softmax(W x_i + b)_{y_i} + s/2 |W|^2,   x standardised by the training features

    s is the best of 10, 1, ..., 1e-6 on a validation part of the training images (the strongest of equals), then the
    probe is fitted again on all of them. The test images play no part. `linear_top1` trains on every labelled
    training image of the data set, `linear_top1_labelled` on those whose label the run could see;
    `linear_top1_validation` is the validation accuracy behind the first choice, for tuning without the test set.
    Where a class has a single labelled image nothing can be held out: s = 0.01.

    Source: scikit-learn's LogisticRegression solves the same problem (C = 1 / (s M))
    Difference: None

    Args:
        validation: share of the training images held out to choose s
        max_iterations: of L-BFGS; `linear_converged` says whether they were enough
    """

    validation: Annotated[float, Interval(ge=0.05, le=0.5)] = 0.2
    max_iterations: Annotated[int, Interval(ge=1)] = 1000

    scores: ClassVar[tuple[str, ...]] = ("linear_top1", "linear_top1_labelled", "linear_top1_validation")

    def measure(self, embedded: Embedded) -> Measured:
        scores, diagnostics = {}, {}
        for suffix, labels in (("", embedded.train_labels), ("_labelled", embedded.shown)):
            rows = torch.nonzero(labels >= 0).squeeze(1)
            x, y = embedded.train[rows], labels[rows]
            strength, held_out_score = self._choose(x, y, embedded)
            probe = SoftmaxRegression.fit(x, y, embedded.classes, strength, self.max_iterations)
            scores[f"linear_top1{suffix}"] = probe.accuracy(embedded.test, embedded.test_labels)
            diagnostics[f"linear_strength{suffix}"] = strength
            diagnostics[f"linear_converged{suffix}"] = float(probe.converged)
            if not suffix and held_out_score is not None:
                scores["linear_top1_validation"] = held_out_score
        return Measured(scores, diagnostics)

    def _choose(self, x: Tensor, y: Tensor, embedded: Embedded) -> tuple[float, float | None]:
        """The best strength and its accuracy on a stratified held-out part; None where nothing can be held out."""
        held_out = hold_out(y.cpu().numpy(), self.validation, seed("validation", *embedded.names))
        if held_out is None:
            return DEFAULT_STRENGTH, None
        held = torch.from_numpy(held_out).to(y.device)
        best, best_score, start = DEFAULT_STRENGTH, -1.0, None
        for strength in STRENGTHS:
            probe = SoftmaxRegression.fit(x[~held], y[~held], embedded.classes, strength, self.max_iterations, start)
            score = probe.accuracy(x[held], y[held])
            start = probe.flat  # the next, weaker penalty starts where this one ended
            if score > best_score:
                best, best_score = strength, score
        return best, best_score
