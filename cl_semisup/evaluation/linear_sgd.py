import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Features, ProbeResult, _linear
from cl_semisup.evaluation._least_squares import standardised
from cl_semisup.measures.logistic import hold_out
from cl_semisup.seeds import seed

RATES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # tried side by side; published recipes lie between 0.02 and 30


@dataclass(frozen=True)
class LinearSGD:
    """The field's linear probe: a softmax head trained by SGD with momentum 0.9 and a cosine to 0, on frozen features.

    The learning rate is the best of 30, 10, ..., 0.03 on a fifth of the training images (the largest of equals), then
    the head is trained again on all of them. It learns from every labelled training image of the run.

    Source: the linear evaluation of arXiv 2103.03230 and 2105.04906 (100 epochs, batch 256, weight decay 1e-6, cosine)
    Difference: features are computed once, without augmentation, and standardised; the rate is chosen on images of
        the training part

    Args:
        epochs: passes over the training images
        batch_size: images a step
        weight_decay: of the head
    """

    epochs: Annotated[int, Interval(ge=1, le=10_000)] = 100
    batch_size: Annotated[int, Interval(ge=1)] = 256
    weight_decay: Annotated[float, Interval(ge=0, le=1)] = 1e-6

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_sgd_top1", "linear_sgd_top5")

    def measure(self, features: Features) -> ProbeResult:
        known = features.train_labels >= 0
        y, classes = features.train_labels[known], features.classes
        if len(y) == 0:
            return ProbeResult()
        x, test = standardised(features.train[known], features.test)
        rate = self._choose(x, y, features)
        logits = self._train(x, y, classes, (rate,), features.seed_key)(test)[0]
        best = logits.topk(min(5, classes), dim=1).indices
        hits = best == features.test_labels[:, None]
        return ProbeResult(
            scores={
                "linear_sgd_top1": float(hits[:, 0].double().mean()),
                "linear_sgd_top5": float(hits.any(dim=1).double().mean()),
            },
            diagnostics={"linear_sgd_learning_rate": rate},
        )

    def _choose(self, x: Tensor, y: Tensor, features: Features) -> float:
        held_out = hold_out(y.cpu().numpy(), _linear.VALIDATION, seed("validation", *features.seed_key))
        if held_out is None:
            return 0.3  # the rate of the recipe
        held = torch.from_numpy(held_out).to(y.device)
        heads = self._train(x[~held], y[~held], features.classes, RATES, features.seed_key)
        right = (heads(x[held]).argmax(dim=2) == y[held]).sum(dim=1).tolist()
        return RATES[right.index(max(right))]

    def _train(
        self, x: Tensor, y: Tensor, classes: int, rates: tuple[float, ...], seed_key: tuple[object, ...]
    ) -> "_Heads":
        """One head per rate, from zero weights, all on the same batches."""
        weight = x.new_zeros(len(rates), x.shape[1], classes)
        bias = x.new_zeros(len(rates), 1, classes)
        momenta = [torch.zeros_like(weight), torch.zeros_like(bias)]
        rate = x.new_tensor(rates)[:, None, None]
        batch = min(self.batch_size, len(x))
        steps_per_epoch = len(x) // batch
        steps = self.epochs * steps_per_epoch
        for step in range(steps):
            epoch, number = divmod(step, steps_per_epoch)
            if number == 0:
                generator = torch.Generator().manual_seed(seed("linear_sgd order", *seed_key, epoch))
                order = torch.randperm(len(x), generator=generator).to(x.device)
            rows = order[number * batch : (number + 1) * batch]
            gradient = _Heads(weight, bias)(x[rows]).softmax(dim=2)  # (R, n, C)
            gradient[:, torch.arange(batch, device=x.device), y[rows]] -= 1
            gradient /= batch
            factor = (1 + math.cos(math.pi * step / steps)) / 2
            momenta[0].mul_(0.9).add_(x[rows].T @ gradient + self.weight_decay * weight)
            momenta[1].mul_(0.9).add_(gradient.sum(dim=1, keepdim=True))
            weight -= factor * rate * momenta[0]
            bias -= factor * rate * momenta[1]
        return _Heads(weight, bias)


class _Heads:
    """(R, F, C) weights and (R, 1, C) biases of R linear heads."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(N, F) -> (R, N, C) logits."""
        return x @ self.weight + self.bias
