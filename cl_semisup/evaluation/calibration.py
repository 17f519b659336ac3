from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from scipy.optimize import minimize_scalar
from torch import Tensor

from cl_semisup.evaluation import Features, ProbeResult, _linear
from cl_semisup.measures.logistic import SoftmaxRegression, hold_out
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class Calibration:
    """Calibration of the linear probe: its expected calibration error (ECE), before and after temperature scaling.

        ECE = sum_b (n_b / N) |accuracy_b - confidence_b|,  confidence = largest probability, bins (lo, hi]

    Of the tuned linear probe on the test images: `linear_ece`, `linear_nll` (nats), `linear_brier` (in [0, 2]) and
    `linear_confidence` (mean). `linear_ece_scaled` is the ECE after dividing the logits by the temperature that is best
    on a held-out fifth of the training images. ECE is biased upwards for small N: compare equal N only. Lower is better
    for all errors, so none of them is a score.

    Source: arXiv 1706.04599
    Difference: None

    Args:
        bins: bins of equal width
    """

    bins: Annotated[int, Interval(ge=1, le=1000)] = 15

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        tuned = _linear.tuned(features)
        if tuned is None:
            return ProbeResult()
        truth = features.test_labels
        logits = tuned.probe.logits(features.test)
        p = logits.softmax(dim=1)
        target = torch.nn.functional.one_hot(truth, features.classes)
        diagnostics = {
            "linear_ece": calibration_error(p, truth, self.bins),
            "linear_nll": float(torch.nn.functional.cross_entropy(logits, truth)),
            "linear_brier": float((p - target).square().sum(dim=1).mean()),
            "linear_confidence": float(p.amax(dim=1).mean()),
        }
        temperature = _temperature(features, tuned.strength)
        if temperature is not None:
            diagnostics["linear_temperature"] = temperature
            p = (logits / temperature).softmax(dim=1)
            diagnostics["linear_ece_scaled"] = calibration_error(p, truth, self.bins)
        return ProbeResult(diagnostics=diagnostics)


def calibration_error(p: Tensor, labels: Tensor, bins: int) -> float:
    """Expected calibration error of (N, C) probabilities, in [0, 1]; empty bins add 0."""
    confidence, predictions = p.double().cpu().max(dim=1)
    right = (predictions == labels.cpu()).double()
    number = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bin b is (b / bins, (b + 1) / bins]
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, number, right - confidence)
    return float(gap.abs().sum() / len(p))


def _temperature(features: Features, strength: float) -> float | None:
    """In [0.01, 100], best for held-out images of a probe fitted without them; None if nothing can be held out."""
    known = features.train_labels >= 0
    x, y = features.train[known], features.train_labels[known]
    held_out = hold_out(y.cpu().numpy(), _linear.VALIDATION, seed("validation", *features.seed_key))
    if held_out is None:
        return None
    held = torch.from_numpy(held_out).to(y.device)
    logits = SoftmaxRegression.fit(x[~held], y[~held], features.classes, strength).logits(x[held])

    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / np.exp(log_t), y[held]))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded").x))
