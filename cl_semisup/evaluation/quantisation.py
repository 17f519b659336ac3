from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl_semisup.evaluation import Features, Network, ProbeResult, _linear

BITS = (8, 6, 4, 3, 2)


@dataclass(frozen=True)
class Quantisation:
    """Accuracy of the linear probe when features, or the encoder's weights, are stored in few bits.

        q(x) = lo + s round((x - lo) / s),   s = (hi - lo) / (2^b - 1),   8, 6, 4, 3 and 2 bits

    `features`: lo and hi are those of the training features, one pair for all coordinates; `feature_channels`: one pair
    a coordinate; test features outside are clipped. `weights`: one pair for every kernel and matrix of the encoder, and
    test features are computed again; norms and biases stay exact. The probe is tuned on exact training features.
    `linear_top1_quantised` is the mean over all settings; each is a diagnostic, such as `linear_weights_4bit`.

    Source: after arXiv 2403.06408, which quantises a language model
    Difference: features of a frozen encoder; our own evaluation, not the paper's
    """

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_top1_quantised",)

    def measure(self, features: Features) -> ProbeResult:
        return _linear.robustness(features, "linear_top1_quantised", self._variants(features))

    def _variants(self, features: Features) -> Iterator[tuple[str, Tensor]]:
        train, test = features.train, features.test
        for bits in BITS:
            yield f"linear_features_{bits}bit", quantised(test, bits, train.min(), train.max())
        for bits in BITS:
            yield f"linear_feature_channels_{bits}bit", quantised(test, bits, train.amin(dim=0), train.amax(dim=0))
        if features.network is not None:
            for bits in BITS:
                yield f"linear_weights_{bits}bit", _with_quantised_weights(features.network, bits)


def quantised(x: Tensor, bits: int, low: Tensor, high: Tensor) -> Tensor:
    """x rounded to 2^bits values from low to high, which broadcast to x; low where both are equal."""
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-30)
    return low + step * ((torch.minimum(torch.maximum(x, low), high) - low) / step).round()


def _with_quantised_weights(network: Network, bits: int) -> Tensor:
    """The test features while the encoder's kernels and matrices are quantised; they are restored afterwards."""
    kernels = [p for p in network.encoder.parameters() if p.ndim > 1]
    exact = [p.detach().clone() for p in kernels]
    try:
        with torch.no_grad():
            for p in kernels:
                p.copy_(quantised(p, bits, p.min(), p.max()))
            return network.features(network.test_images)
    finally:
        with torch.no_grad():
            for p, before in zip(kernels, exact, strict=True):
                p.copy_(before)
