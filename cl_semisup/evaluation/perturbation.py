from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl_semisup.evaluation import Features, ProbeResult, _linear
from cl_semisup.seeds import seed

SHAPES = ("gaussian", "uniform", "sign")
CORRELATIONS = ("none", "positive", "negative")
DECIBELS = (20, 10, 5, 0)


@dataclass(frozen=True)
class Perturbation:
    """Accuracy of the linear probe when noise is added to the test features, over signal-to-noise ratios.

        z' = z + e r w(z),   e such that the mean |z' - z|^2 is the mean |z|^2 / SNR

    Shapes of r: gaussian, uniform, sign (each coordinate -1 or 1). Correlation with the size of a feature's coordinate:
    none (w = 1), positive (w = |z| / mean|z|), negative (w = 1 / (1 + |z| / mean|z|)). All have the same energy and
    differ only in shape. SNR: 20, 10, 5 and 0 decibels. The probe is tuned on clean features.
    `linear_top1_perturbed` is the mean over all 36 settings; each is a diagnostic, such as `linear_noise_sign_10db`.

    Source: after arXiv 2403.06408, which perturbs a language model's weights and activations
    Difference: features of a frozen encoder; our own evaluation, not the paper's
    """

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_top1_perturbed",)

    def measure(self, features: Features) -> ProbeResult:
        return _linear.robustness(features, "linear_top1_perturbed", self._variants(features.test, features.seed_key))

    def _variants(self, z: Tensor, seed_key: tuple[object, ...]) -> Iterator[tuple[str, Tensor]]:
        for shape in SHAPES:
            for correlation in CORRELATIONS:
                noise = _noise(z, shape, correlation, seed("perturbation", shape, *seed_key))
                kind = shape if correlation == "none" else f"{shape}_{correlation}"
                for decibels in DECIBELS:
                    yield f"linear_noise_{kind}_{decibels}db", z + _matched(noise, z, decibels)


def _noise(z: Tensor, shape: str, correlation: str, rng_seed: int) -> Tensor:
    """(N, F) noise of a shape, weighted by the size of z, of any energy."""
    generator = torch.Generator().manual_seed(rng_seed)
    if shape == "gaussian":
        r = torch.randn(z.shape, generator=generator)
    else:
        r = 2 * torch.rand(z.shape, generator=generator) - 1
        r = torch.where(r < 0, -1.0, 1.0) if shape == "sign" else r
    size = z.abs() / z.abs().mean().clamp(min=1e-12)
    weight = {"none": torch.ones_like(z), "positive": size, "negative": 1 / (1 + size)}[correlation]
    return r.to(z) * weight


def _matched(noise: Tensor, z: Tensor, decibels: float) -> Tensor:
    """The noise scaled to the energy that gives this signal-to-noise ratio."""
    energy = z.square().sum() / 10 ** (decibels / 10)
    return noise * (energy / noise.square().sum().clamp(min=1e-30)).sqrt()
