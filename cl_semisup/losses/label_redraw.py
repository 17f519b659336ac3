from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor, nn

from cl_semisup.errors import InputError
from cl_semisup.losses import Loss, Setting, requirements_of
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField
from cl_semisup.seeds import seed

LOW_34, LOW_37, LOW_33, LOW_53 = 2**34 - 1, 2**37 - 1, 2**33 - 1, 2**53 - 1


@dataclass(frozen=True)
class LabelRedraw:
    """Label redraw: any loss, with a new random share of the labels in every epoch, as in CLOP's early code.

        L = L_base(z1, z2, labels'),  labels'_i = labels_i with probability q, else -1; drawn anew for image and epoch

    This is no protocol with few labels: after n epochs the network has used the share 1 - (1 - q)^n of the visible
    labels. It exists to measure how much this changes published scores, compared with labels that are drawn once.

    Group: wrappers
    Source: manhbeo/CLOP CLOPLoss.py @bed310f, where a fresh share of every batch counts as labelled
    Difference: images are drawn one by one (there int(q N) of each batch), so that batches and their order do not
    matter; both terms of CLOP see the same draw (there each has its own)
    Degenerate: where no image of a batch is drawn, all are unlabelled.

    Args:
        base: the loss that sees the labels: a name or {name: settings}
        share: q
    """

    base: Annotated[Any, PluginField("losses")] = "clop"
    share: Annotated[float, Interval(gt=0, le=1)] = 0.5

    def build(self, setting: Setting) -> nn.Module:
        base = setting.loss(self.base)
        if not requirements_of(base).labels or requirements_of(base).trains_on == "labelled":
            rule = "the base must use labels, and train on unlabelled images too"
            name = next(iter(self.base))
            raise InputError(f"label_redraw: {rule}. Got {name}. Use one such as clop or supcon.")
        return _LabelRedraw(base, self.share, setting.seed)


class _LabelRedraw(Wrapper):
    def __init__(self, base: Loss, share: float, rng_seed: int):
        super().__init__(base, "index", "epoch")
        self.share, self.rng_seed = share, rng_seed

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        if labels is not None:
            labels = torch.where(self.drawn(needed["index"], needed["epoch"]), labels, -1)
        return self.base_loss(z1, z2, labels, needed)

    def drawn(self, index: Tensor, epoch: int) -> Tensor:
        """(N,) bool: whether the image's label is used in this epoch."""
        if index.device.type == "mps":  # which has no float64
            return self.drawn(index.cpu(), epoch).to(index.device)
        return _uniform(index, seed("label redraw", self.rng_seed, epoch)) < self.share


def _uniform(index: Tensor, rng_seed: int) -> Tensor:
    """(N,) float64 in [0, 1): a hash (splitmix64) of each image's index, without a table of all images.

    Products overflow at 64 bits, as splitmix64 requires.
    """
    x = index + rng_seed
    x = (x ^ (x >> 30 & LOW_34)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & LOW_37)) * -0x6B2FB644ECCEEE15
    x = x ^ (x >> 31 & LOW_33)
    return (x & LOW_53).double() / 2**53
