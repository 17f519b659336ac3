from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from cl_semisup.contrast import nothing
from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, Setting, Share
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class LStatistic:
    """L-statistic of any loss that has a value for every image: large values (likely outliers) have less weight.

        L = sum_k [ G(k/n) - G((k-1)/n) ] l_(k),  l_(1) <= ... <= l_(n) the images' values, G(x) = integral of W to x

    trim:  W(x) = 1/q up to x = q, then 0: the mean of the share q of smallest values
    ramp:  W(x) = 2/(1 + q) up to x = q, then falling linearly to 0 at x = 1
    power: W(x) = (1 + r) (1 - x)^r

    Ranks are taken anew in every batch and carry no gradient. An image's value is the mean over its two anchors.

    Group: reproductions
    Source: arXiv 2012.07399, definition of the L-statistic; no code found
    Difference: ranks are those of the batch (there of the whole set); W is integrated over each rank's share, so
    weights add up to 1 whatever n and q; a warm-up, since a small contrastive value is an easy pair
    Degenerate: one image keeps its value. Without an image that has a value it is 0 with a graph.

    Args:
        base: the loss it weighs: a name or {name: settings}
        weights: form of W
        kept: q, in (0, 1]; for trim and ramp
        power: r, >= 0; for power
        warm_up: share of training in which all images weigh alike
    """

    base: Annotated[Any, PluginField("losses")] = "nt_xent"
    weights: Literal["trim", "ramp", "power"] = "trim"
    kept: Annotated[float, Interval(gt=0, le=1)] = 0.9
    power: Annotated[float, Ge(0)] = 1.0
    warm_up: Share = 0.1

    def build(self, setting: Setting) -> nn.Module:
        base = setting.loss(self.base)
        if not hasattr(base, "per_image"):
            rule = "the base must have a value for every image"
            raise InputError(f"l_statistic: {rule}. Got {self.base!r}. Use one with `per_image`, such as nt_xent.")
        return _LStatistic(self, base)


class _LStatistic(Wrapper):
    def __init__(self, settings: LStatistic, base: Loss):
        super().__init__(base, "progress")
        self.settings = settings

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base: Any = self.base
        values, progress = base.per_image(z1, z2, labels, **self.for_base(needed)), needed["progress"]  # (N,)
        all_images = torch.ones_like(values, dtype=torch.bool)
        counts = base.counts(z1, labels) if hasattr(base, "counts") else all_images
        order = torch.where(counts, values.detach(), torch.inf).argsort(stable=True)  # images without a value come last
        ranked = torch.where(counts, values, 0.0)[order]
        upper = torch.arange(1, len(values) + 1, device=values.device, dtype=values.dtype)
        count = counts.sum().clamp(min=1)
        upper_weight = self._total_weight((upper / count).clamp(max=1), progress)
        lower_weight = self._total_weight(((upper - 1) / count).clamp(max=1), progress)
        return ((upper_weight - lower_weight) * ranked).sum() + nothing(z1, z2)

    def _total_weight(self, x: Tensor, progress: float) -> Tensor:
        """G(x): total weight of the smallest values, a share x of all."""
        s = self.settings
        if progress < s.warm_up:
            return x
        if s.weights == "power":
            return 1 - (1 - x) ** (1 + s.power)
        if s.weights == "trim" or s.kept == 1:
            return (x / s.kept).clamp(max=1)
        excess = (x - s.kept).clamp(min=0)
        return 2 / (1 + s.kept) * (x - excess**2 / (2 * (1 - s.kept)))
