"""What tests of probes share: healthy features with all that a probe may use, and the call of one probe."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cl_semisup import plugins
from cl_semisup.config import grid
from cl_semisup.data.images import Images
from cl_semisup.evaluation import Features, Network, ProbeResult

PROBES = plugins.names("evaluation")
CLASSES = 5


def blobs(
    count: int, *, noise: float = 1.0, dim: int = 12, classes: int = CLASSES, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(N, F) overlapping clusters around fixed class means, and their classes in equal shares."""
    means = 2 * torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    y = torch.arange(count) % classes
    x = means[y] + noise * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return x, y


class Encoder(nn.Module):
    """(N, 1, 4, 4) -> (N, 12), fixed and random."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(16, 12, bias=False)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            self.map.weight.copy_(torch.randn(12, 16, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return self.map(images.flatten(1)).relu()


def other_data(channels: int = 3, side: int = 6, count: int = 60) -> Images:
    """Three classes of coloured images that differ in their mean; the last training images have no label."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = generator.integers(0, 100, (count, channels, side, side)) + 60 * labels[:, None, None, None]
    known = np.where(np.arange(count) < count - 5, labels, -1)
    return Images(pixels.astype(np.uint8), known, pixels[:30].astype(np.uint8), labels[:30], ("a", "b", "c"))


def network(images: Tensor, train_images: Tensor) -> Network:
    encoder = Encoder().eval()

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        return encoder(x.float() / 255)

    def view(number: int) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        return features((images.float() + 20 * torch.randn(images.shape, generator=generator)).clamp(0, 255))

    def untrained(x: Tensor) -> Tensor:
        return (x.float() / 255).flatten(1) @ torch.randn(16, 12, generator=torch.Generator().manual_seed(8))

    def inputs(x: Tensor) -> Tensor:
        return x.float() / 255

    def augmented(x: Tensor, seed: int) -> Tensor:
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        return (x.float() + 20 * noise).clamp(0, 255) / 255

    return Network(
        encoder,
        train_images,
        images,
        features,
        view,
        untrained,
        lambda named: other_data(),
        inputs,
        augmented,
        lambda: copy.deepcopy(encoder),
        Encoder,
        lambda encoder: encoder,
        lambda _what, _given, compute: compute(),
    )


def make_features(train: int = 100, test: int = 60, **changes: Any) -> Features:
    """Healthy features of the size of `digits`; `changes` replace some of them."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (test, 1, 4, 4), generator=generator, dtype=torch.uint8)
    train_images = torch.randint(0, 256, (train, 1, 4, 4), generator=generator, dtype=torch.uint8)
    (x, y), (xt, yt) = blobs(train), blobs(test, seed=1)
    parts = dict(
        train=x,
        test=xt,
        train_projections=x[:, :7],
        test_projections=xt[:, :7],
        train_labels=y,
        test_labels=yt,
        visible_labels=torch.where(torch.arange(train) < 20, y, -1),
        test_views=(xt + 0.1, xt - 0.1),
        classes=CLASSES,
        seed_key=("blobs", 0),
        network=network(images, train_images),
    )
    return Features(**(parts | changes))


NEEDED: dict[str, dict[str, Any]] = {  # settings without a default
    "transfer": {"datasets": ["digits"]},
    "shifted_test": {"datasets": ["digits"]},
}


def measure(name: str, features: Features, **settings: Any) -> ProbeResult:
    return grid.build("evaluation", name, NEEDED.get(name, {}) | settings).measure(features)
