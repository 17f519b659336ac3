import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from cl_semisup import seeds
from cl_semisup.contrast import unit
from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, Setting, Share
from cl_semisup.losses._pseudo_labels import Ring, masked
from cl_semisup.losses._schedule import drawn
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField

LARGEST_RATIO = 4 / 3  # of the sides of a patch


@dataclass(frozen=True)
class PatchDistillation:
    """Patch-based self-distillation (PBSD): a patch alone is to match the keys that its region in the image matches.

        L = L_base(z1, z2, labels) + w mean over patches p, images i of
            - sum_k softmax_k(r_ip.q_ik / t) log softmax_k(s_ip.q_ik / t)

    A patch is a random box of the first view. s: the unit projection of the box cut out and resized to the full side;
    r: that of the mean of the encoder's feature map over the box (RoIAlign, 2 x 2), without a gradient. The keys q_i:
    the momentum encoder's unit projection of the image's second view, and of the second views of earlier steps.

    Group: wrappers
    Source: arXiv 2403.06151; SY-Xuan/DSCL@79f8cefc dscl/DSCL.py (PBSDLoss), dscl/loader_roi.py
    Difference: the equation is that of the code. A patch has the colours of its view (there colours of its own), is
    resized to the full side (there 64 of 224 pixels), and running statistics do not see it; the queue starts empty, and
    the momentum goes to 1 along a cosine (constant 0.999 there). An encoder without a map as wide as its features (mlp,
    vit) gives every region the features of the whole view. The paper's loss is this on the base `dscl`
    Degenerate: with an empty queue every image has one key, and the second term is 0.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none
        weight: w, >= 0
        temperature: t, > 0
        boxes: patches of each image, >= 1
        smallest: share of the view's area that a patch has at least
        largest: at most
        queue: keys remembered
        momentum: decay of the momentum encoder at the first step, cosine to 1
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "dscl"
    weight: Annotated[float, Ge(0)] = 1.5
    temperature: Annotated[float, Gt(0)] = 0.07
    boxes: Annotated[int, Interval(ge=1, le=32)] = 5
    smallest: Annotated[float, Interval(gt=0, le=0.75)] = 0.05
    largest: Annotated[float, Interval(gt=0, le=0.75)] = 0.6
    queue: Annotated[int, Interval(ge=1, le=1048576)] = 1024
    momentum: Share = 0.99

    def build(self, setting: Setting) -> nn.Module:
        if self.smallest > self.largest:
            got = f"Got {self.smallest:g} and {self.largest:g}"
            raise InputError(f"patch_distillation: smallest must not exceed largest. {got}. Lower it.")
        return _PatchDistillation(setting.loss(self.base), self, setting)


class _PatchDistillation(Wrapper):
    """`memory` holds the keys of earlier steps, unit rows; a row of zeros is an empty place."""

    def __init__(self, base: Loss, settings: PatchDistillation, setting: Setting):
        super().__init__(base, "patches", "momentum_projections", "progress")
        self.requirements = replace(self.requirements, momentum=(settings.momentum, 1.0))
        self.settings, self.seed = settings, setting.seed
        self.memory = Ring(settings.queue, rows=torch.zeros(setting.width("patch_distillation")))

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base = self.base_loss(z1, z2, labels, needed)
        key = unit(needed["momentum_projections"][1])  # (N, D)
        boxes = drawn(lambda progress: self._boxes(len(z1), progress), needed["progress"], z1.device)  # (P, N, 4)
        memory = self.memory.get_buffer("rows").to(key.dtype).clone()  # the graph needs it as it is now
        terms = []
        for box in boxes:
            patch, region = (unit(rows) for rows in needed["patches"](box))
            target = self._log_shares(region, key, memory).exp().detach()
            terms.append(-(target * self._log_shares(patch, key, memory)).sum(dim=1).mean())
        if self.training and torch.is_grad_enabled():
            self.memory.store(rows=key)
        return base + self.settings.weight * torch.stack(terms).mean()

    def _log_shares(self, rows: Tensor, key: Tensor, memory: Tensor) -> Tensor:
        """(N, 1 + Q) log softmax over the image's own key and the memory."""
        logits = torch.cat([(rows * key).sum(dim=1, keepdim=True), rows @ memory.T], dim=1) / self.settings.temperature
        there = torch.cat([memory.new_ones(1), memory.abs().sum(dim=1)]) > 0
        return masked(logits, there.expand_as(logits)).log_softmax(dim=1)

    def _boxes(self, count: int, progress: float) -> Tensor:
        """(P, N, 4) boxes x, y, x, y in shares of the side; a function of the seed and the progress."""
        generator = torch.Generator().manual_seed(seeds.seed("patches", self.seed, progress))
        settings = self.settings
        area, ratio, x, y = torch.rand(4, settings.boxes, count, generator=generator)
        area = settings.smallest + (settings.largest - settings.smallest) * area
        stretch = ((2 * ratio - 1) * math.log(LARGEST_RATIO) / 2).exp()
        width, height = area.sqrt() * stretch, area.sqrt() / stretch  # at most sqrt(0.75 * 4 / 3) = 1
        left, top = x * (1 - width), y * (1 - height)
        return torch.stack([left, top, left + width, top + height], dim=2)
