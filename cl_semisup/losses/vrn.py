from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import nothing, unit
from cl_semisup.losses import Loss, Setting
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class VRN:
    """VRN: any contrastive loss, plus a penalty on the variance of the similarities of negative pairs.

        L = L_base(z1, z2, labels) + w mean over i != j of (u_i.v_j + 1 / (M - 1))^2

    on unit rows u, v of the two views; M is the number of training images, and -1 / (M - 1) the similarity of all pairs
    of M points that are spread as far as possible. In batches the similarities of negative pairs spread about it, which
    the penalty reduces.

    Group: wrappers
    Source: arXiv 2506.09781, section 5; leechungpa/embedding-similarity-cl@5c354b06 solo/losses/vrn.py
    Difference: the code takes the target similarity as a setting; here it follows from M
    Degenerate: one image has no negative pair and has the base loss alone. Labels are used by the base loss only.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none for the penalty alone
        weight: w, >= 0; 30 in the paper
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"
    weight: Annotated[float, Ge(0)] = 30.0

    def build(self, setting: Setting) -> nn.Module:
        return _WithPenalty(setting.loss(self.base), self.weight, -1 / max(1, setting.memory_size("vrn") - 1))


class _WithPenalty(Wrapper):
    def __init__(self, base: Loss, weight: float, target: float):
        super().__init__(base)
        self.weight, self.target = weight, target

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        base = self.base_loss(z1, z2, labels, needed)
        if len(z1) < 2:
            return base + nothing(z1, z2)
        similarity = unit(z1) @ unit(z2).T  # (N, N)
        deviations = (similarity - self.target).square()
        # All but the diagonal, without a mask, whose number of entries the host would have to know.
        negative = deviations.flatten()[1:].view(len(z1) - 1, len(z1) + 1)[:, :-1]
        return base + self.weight * negative.flatten().mean()
