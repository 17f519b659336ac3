from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup import seeds
from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, Requirements, Setting, Share, Views, requirements_of
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._schedule import drawn
from cl_semisup.plugins import PluginField

EPS = 1e-8


@dataclass(frozen=True)
class AdversarialDistribution:
    """Adversarial distributional training of a contrastive loss: perturbations from the worst distribution of noise.

        L = (1 - w) L_base(z1, z2) + w L_base(z(x1 + delta), z2),  delta drawn from the distribution that maximises
        E[ L_base(z(x1 + delta), z2) ] + k H
        delta = epsilon tanh(a),  a = m + softplus(v) r,  r ~ N(0, 1), for every pixel of every image
        H = mean over pixels of [ r^2/2 + log softplus(v) + log(1 - tanh(a)^2) ]  (constants dropped)

    m and v, one of each for every pixel, start from 0 and take a few steps of Adam without memory, g / (|g| + 1e-8)
    times step_size; then one delta is drawn and the network is trained on it.

    Group: wrappers
    Source: arXiv 2002.05999 (ADT-EXP); dongyp13/Adversarial-Distributional-Training adt_exp.py, adt_loss
    Difference: the loss is contrastive instead of cross-entropy; the clean loss is kept in part (there w = 1); one
    sample a step (there 5); the attack uses batch norm as in training without changing its running statistics (there as
    in evaluation), and adversarial images are a batch of their own
    Degenerate: as the base.

    Args:
        base: a stateless loss on projections, a name or {name: settings}
        weight: w, in [0, 1]
        entropy_weight: k, >= 0
        epsilon: largest change of a pixel, of its range [0, 1]; the result stays in that range
        steps: steps of the inner maximisation, each `samples` forward and backward passes
        step_size: step of the inner maximisation in m and v, > 0
        samples: draws of r that a step averages over
    """

    base: Annotated[Any, PluginField("losses")] = "nt_xent"
    weight: Share = 0.5
    entropy_weight: Annotated[float, Ge(0)] = 0.01
    epsilon: Share = 8 / 255
    steps: Annotated[int, Interval(ge=0, le=100)] = 7
    step_size: Annotated[float, Gt(0)] = 0.3
    samples: Annotated[int, Interval(ge=1, le=100)] = 1

    def build(self, setting: Setting) -> nn.Module:
        base = setting.loss(self.base)
        if isinstance(base, nn.Module) or requirements_of(base).needs:
            rule = "the base must have no state and need projections only, since the attack evaluates it many times"
            raise InputError(f"adversarial_distribution: {rule}. Got {self.base!r}. Use another, such as nt_xent.")
        return _AdversarialDistribution(self, base, setting.seed)


class _AdversarialDistribution(nn.Module):
    def __init__(self, settings: AdversarialDistribution, base: Loss, seed: int):
        super().__init__()
        self.settings, self.base, self.seed = settings, base, seed
        self.requirements = Requirements(
            labels=requirements_of(base).labels,
            needs=("inputs", "encode", "pixels", "progress"),
            trains_on=requirements_of(base).trains_on,
            exempt={
                "gradient": "the perturbation takes no gradient to the views",
                "batch_order": "the noise is drawn row by row",
                "view_swap": "the first view is attacked",
                "rotation": "the adversarial view is embedded anew and not turned",
            },
        )

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        labels: Tensor | None = None,
        *,
        inputs: Views,
        encode: Callable[[Tensor], Tensor],
        pixels: Views,
        progress: float,
    ) -> Tensor:
        images = wide(inputs[0].detach())
        noise = self.noise(images, progress)
        objective = lambda z: self.base(z, z2.detach(), labels)  # noqa: E731
        mean, spread = self._worst(images, encode, pixels, objective, noise)
        images = self._perturbed(images, mean + F.softplus(spread) * next(noise), pixels)
        attacked = self.base(encode(images).to(z1.dtype), z2, labels)
        return (1 - self.settings.weight) * self.base(z1, z2, labels) + self.settings.weight * attacked

    def _worst(
        self,
        images: Tensor,
        encode: Callable[[Tensor], Tensor],
        pixels: Views,
        objective: Callable[[Tensor], Tensor],
        noise: Iterator[Tensor],
    ) -> Views:
        """(m, v) of every pixel. The network does not change, and no gradient stays on it."""
        s = self.settings
        mean, spread = torch.zeros_like(images), torch.zeros_like(images)
        for _ in range(s.steps):
            totals = [torch.zeros_like(images), torch.zeros_like(images)]
            for _ in range(s.samples):
                with torch.enable_grad():
                    mean.requires_grad_(), spread.requires_grad_()
                    r, scale = next(noise), F.softplus(spread)
                    a = mean + scale * r
                    entropy = (r.square() / 2 + (scale + EPS).log() + (1 - a.tanh().square() + EPS).log()).mean()
                    value = objective(encode(self._perturbed(images, a, pixels))) + s.entropy_weight * entropy
                    gradients = torch.autograd.grad(value, (mean, spread))
                totals = [total + part / s.samples for total, part in zip(totals, gradients, strict=True)]
            mean, spread = (
                value.detach() + s.step_size * gradient / (gradient.abs() + EPS)
                for value, gradient in zip((mean, spread), totals, strict=True)
            )
        return mean, spread

    def _perturbed(self, images: Tensor, a: Tensor, pixels: Views) -> Tensor:
        low, high = pixels
        return torch.clamp(images + self.settings.epsilon * (high - low) * a.tanh(), low, high)

    def noise(self, images: Tensor, progress: float) -> Iterator[Tensor]:
        """The draws of normal noise that a training step takes, from the host, so that every device has the same."""
        count, shape, dtype = self.settings.steps * self.settings.samples + 1, images.shape, images.dtype

        def draw(progress: float) -> Tensor:
            generator = torch.Generator().manual_seed(seeds.seed("attack", self.seed, progress))
            return torch.stack([torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)])

        return iter(drawn(draw, progress, images.device))
