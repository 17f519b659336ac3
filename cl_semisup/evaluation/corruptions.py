from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_semisup.evaluation import Features, Network, ProbeResult, _linear
from cl_semisup.seeds import seed

SEVERITIES = {  # three strengths of each kind, in the units of the docstring below
    "noise": (0.05, 0.1, 0.2),
    "blur": (1 / 32, 1 / 16, 1 / 8),
    "contrast": (0.6, 0.4, 0.2),
    "brightness": (0.1, 0.2, 0.4),
}


@dataclass(frozen=True)
class Corruptions:
    """Accuracy of the linear probe on corrupted test images: noise, blur, contrast and brightness, three severities.

    noise: Gaussian, standard deviation 0.05, 0.1, 0.2 of the full range of a pixel; blur: Gaussian, standard deviation
    1/32, 1/16, 1/8 of the side; contrast: 0.6, 0.4, 0.2 of each image's own, about its mean; brightness: 0.1, 0.2, 0.4
    added. Pixels are clipped and rounded to 8 bits. The probe is tuned on clean training images.
    `linear_top1_corrupted` is the mean over all twelve; each is a diagnostic, such as `linear_blur_3`.

    Source: four of the kinds of arXiv 1903.12261
    Difference: our own severities, for any image size; not comparable with published tables of CIFAR-10-C
    """

    inputs: ClassVar[str] = "images"
    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_top1_corrupted",)

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("corruptions", "compute features of corrupted images")
        return _linear.robustness(features, "linear_top1_corrupted", self._variants(network, features.seed_key))

    def _variants(self, network: Network, seed_key: tuple[object, ...]) -> Iterator[tuple[str, Tensor]]:
        for kind, strengths in SEVERITIES.items():
            for severity, strength in enumerate(strengths, start=1):
                images = corrupted(network.test_images, kind, strength, seed("corruption", kind, *seed_key))
                yield f"linear_{kind}_{severity}", network.features(images)


def corrupted(images: Tensor, kind: str, strength: float, rng_seed: int) -> Tensor:
    """(N, channels, side, side) uint8 -> the same, corrupted; strength 0 (contrast: 1) changes nothing."""
    generator = torch.Generator().manual_seed(rng_seed)
    parts = []
    for part in images.split(1000):
        x = _KINDS[kind](part.float() / 255, strength, generator)
        parts.append((255 * x.clamp(0, 1)).round().to(torch.uint8))
    return torch.cat(parts)


def _noise(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return x + strength * torch.randn(x.shape, generator=generator).to(x)


def _blur(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Mirrored at the edges; the kernel reaches over three standard deviations, at most to the side."""
    side, sigma = x.shape[-1], strength * x.shape[-1]
    radius = min(side - 1, max(1, int(3 * sigma + 0.5)))
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-3)).square())
    kernel = (weights / weights.sum()).view(1, 1, 1, -1)
    flat = F.pad(x.reshape(-1, 1, side, side), (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(flat, kernel), kernel.transpose(2, 3)).view_as(x)


def _contrast(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + strength * (x - mean)


def _brightness(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return x + strength


_KINDS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
}
