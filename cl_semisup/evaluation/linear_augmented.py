import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Features, Network, ProbeResult, accuracy
from cl_semisup.measures.column_scale import column_scale
from cl_semisup.measures.logistic import hold_out
from cl_semisup.seeds import seed

RATES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # tried side by side; published recipes lie between 0.02 and 30
RECIPE_RATE = 0.3  # where nothing can be held out
VALIDATION = 0.2  # share of the labelled images held out to choose a rate
BATCH = 500  # images at once through the encoder


@dataclass(frozen=True)
class LinearAugmented:
    """The linear probe of most papers: a softmax head trained on random views of the training images, frozen network.

    SGD with momentum 0.9 and a cosine to 0. Every epoch computes features of new random views without colour changes
    (crops and mirrors where the data set's views have them), so it costs `epochs` passes through the encoder. The rate
    is the best of 30, 10, ..., 0.03 on a held-out fifth of the labelled training images, which is not augmented; one
    head for each rate learns from the rest, one from all, on the same features. Test images are not augmented. Which
    papers: arXiv 2002.05709 (SimCLR), 1911.05722 (MoCo), 2006.07733 (BYOL), 2103.03230 (Barlow Twins), solo-learn's
    tables.

    Source: the linear evaluation of arXiv 2103.03230 (100 epochs, batch 256, weight decay 1e-6, cosine)
    Difference: 20 epochs unless set, features standardised by those without augmentation, the rate chosen on training
        images

    Args:
        epochs: passes over the training images
        batch_size: images a step
        weight_decay: of the head
    """

    epochs: Annotated[int, Interval(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Interval(ge=1)] = 256
    weight_decay: Annotated[float, Interval(ge=0, le=1)] = 1e-6

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_augmented_top1",)

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("linear_augmented", "compute features of random views")
        known = torch.nonzero(features.train_labels >= 0).squeeze(1)
        if len(known) == 0:
            return ProbeResult()
        x, y = features.train[known], features.train_labels[known]
        mean = x.mean(dim=0)
        scale = column_scale(mean, x.std(dim=0, correction=0))
        mask = hold_out(y.cpu().numpy(), VALIDATION, seed("validation", *features.seed_key))
        held = torch.zeros(len(y), dtype=torch.bool) if mask is None else torch.from_numpy(mask)
        heads = self._train(network, known, y, ~held.to(y.device), mean, scale, features)
        rate = RATES.index(RECIPE_RATE)
        if mask is not None:
            held = held.to(y.device)
            right = (heads((x[held] - mean) / scale)[: len(RATES)].argmax(dim=2) == y[held]).sum(dim=1).tolist()
            rate = right.index(max(right))
        predictions = heads((features.test - mean) / scale)[len(RATES) + rate].argmax(dim=1)
        return ProbeResult(
            {"linear_augmented_top1": accuracy(predictions, features.test_labels)},
            {"linear_augmented_learning_rate": RATES[rate]},
        )

    def _train(
        self,
        network: Network,
        known: Tensor,
        y: Tensor,
        rest: Tensor,
        mean: Tensor,
        scale: Tensor,
        features: Features,
    ) -> "_Heads":
        """Two heads a rate, from zero weights, on the same batches: first those that learn from `rest`, then of all."""
        images = network.train_images[known.to(network.train_images.device)]
        rates = mean.new_tensor(RATES).repeat(2)[:, None, None]  # (2 R, 1, 1)
        count, width, classes = len(rates), len(mean), features.classes
        heads = _Heads(mean.new_zeros(count, width, classes), mean.new_zeros(count, 1, classes))
        momenta = [torch.zeros_like(heads.weight), torch.zeros_like(heads.bias)]
        batch = min(self.batch_size, len(y))
        steps = self.epochs * (len(y) // batch)
        step = 0
        for epoch in range(self.epochs):
            x = (_view(network, images, *features.seed_key, epoch) - mean) / scale
            generator = torch.Generator().manual_seed(seed("linear_augmented order", *features.seed_key, epoch))
            order = torch.randperm(len(y), generator=generator).to(y.device)
            for rows in (part for part in order.split(batch) if len(part) == batch):
                gradient = heads(x[rows]).softmax(dim=2)  # (2 R, n, C)
                gradient[:, torch.arange(batch, device=y.device), y[rows]] -= 1
                used = rest[rows].to(gradient)[None, :, None]
                gradient[: len(RATES)] *= used / used.sum().clamp(min=1)
                gradient[len(RATES) :] /= batch
                factor = (1 + math.cos(math.pi * step / steps)) / 2
                momenta[0].mul_(0.9).add_(x[rows].T @ gradient + self.weight_decay * heads.weight)
                momenta[1].mul_(0.9).add_(gradient.sum(dim=1, keepdim=True))
                heads.weight -= factor * rates * momenta[0]
                heads.bias -= factor * rates * momenta[1]
                step += 1
        return heads


@torch.no_grad()
def _view(network: Network, images: Tensor, *key: object) -> Tensor:
    """(N, F) features of one random view of each image."""
    parts = enumerate(images.split(BATCH))
    views = (network.augmented(part, seed("linear_augmented views", *key, number)) for number, part in parts)
    return torch.cat([network.encoder(view).float() for view in views])


class _Heads:
    """(H, F, C) weights and (H, 1, C) biases of H linear heads."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(N, F) -> (H, N, C) logits."""
        return x @ self.weight + self.bias
