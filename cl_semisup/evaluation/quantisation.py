from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cl_semisup.evaluation import Features, ProbeResult, _linear

BITS = (8, 6, 4, 3, 2)


@dataclass(frozen=True)
class Quantisation:
    """Accuracy of the linear probe when features, or the encoder's weights, are stored in few bits.

        q(x) = lo + s round((x - lo) / s),   s = (hi - lo) / (2^b - 1),   8, 6, 4, 3 and 2 bits

    `features`: lo and hi are those of the training features, one pair for all coordinates; `feature_channels`: one pair
    a coordinate; test features beyond are clipped. `weights`: one pair for every kernel and matrix of the encoder, and
    test features are computed again; norms and biases stay. The probe is the tuned one on exact training features.
    `linear_top1_quantised` is the mean over all settings, of which each is a diagnostic, `linear_weights_4bit`.

    Source: after arXiv 2403.06408, which quantises a language model
    Difference: features of a frozen encoder; an evaluation of ours, not the paper's
    """

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_top1_quantised",)

    def measure(self, embedded: Features) -> ProbeResult:
        (feature_set,) = embedded.feature_sets("features")
        tuned = _linear.tuned(embedded, feature_set, "")
        if tuned is None:
            return ProbeResult()
        ways: dict[str, Callable[[int], Tensor]] = {
            "features": lambda bits: quantised(
                feature_set.test, bits, feature_set.train.min(), feature_set.train.max()
            ),
            "feature_channels": lambda bits: quantised(
                feature_set.test, bits, feature_set.train.amin(dim=0), feature_set.train.amax(dim=0)
            ),
        }
        if (network := embedded.network) is not None:
            ways["weights"] = lambda bits: _with_weights(
                network.encoder, bits, lambda: network.features(network.test_images)
            )
        found = ProbeResult()
        for word, features in ways.items():
            for bits in BITS:
                top1 = tuned.probe.accuracy(features(bits), embedded.test_labels)
                found.diagnostics[f"linear_{word}_{bits}bit"] = top1
        found.scores["linear_top1_quantised"] = sum(found.diagnostics.values()) / len(found.diagnostics)
        return found


def quantised(x: Tensor, bits: int, low: Tensor, high: Tensor) -> Tensor:
    """x on a grid of 2^bits values from low to high, which broadcast to x; where they are equal, low."""
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-30)
    return low + step * ((torch.minimum(torch.maximum(x, low), high) - low) / step).round()


def _with_weights(encoder: nn.Module, bits: int, embed: Callable[[], Tensor]) -> Tensor:
    """What `embed` gives while the encoder's kernels and matrices are quantised; they are put back afterwards."""
    kernels = [p for p in encoder.parameters() if p.ndim > 1]
    exact = [p.detach().clone() for p in kernels]
    try:
        with torch.no_grad():
            for p in kernels:
                p.copy_(quantised(p, bits, p.min(), p.max()))
            return embed()
    finally:
        with torch.no_grad():
            for p, before in zip(kernels, exact, strict=True):
                p.copy_(before)
