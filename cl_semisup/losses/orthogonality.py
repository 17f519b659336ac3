from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from cl_semisup.contrast import nothing
from cl_semisup.losses import Loss, Setting
from cl_semisup.losses._numbers import wide
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class Orthogonality:
    """Orthogonality regularisation: any loss, plus a penalty on encoder weights that are no isometries.

        L = L_base(z1, z2, labels) + w sum over layers l of R(G_l)
        G = W^T W - I if W has more rows than columns, W W^T - I otherwise
        soft: R(G) = sum_ij G_ij^2        spectral: R(G) = largest |eigenvalue of G|

    W: the weights of every trained linear and convolutional layer of the encoder, (outputs, everything else); a
    transformer's three input matrices of attention count one by one. The projector is left alone. Weights of full,
    even spectrum cannot collapse dimensions that the data have.

    Group: wrappers
    Source: arXiv 2411.00392 (abstract; equations as in arXiv 1810.09102, SO and SRIP); no code found
    Difference: a reconstruction: the abstract says where the penalty acts and its name, the forms were read in other
    papers' code, and weights of 1e-6 (soft) and 1e-3 (spectral) are recalled. `spectral` is exact, there two steps of
    the power method
    Degenerate: an encoder without such weights has the base loss alone. Labels are used by the base loss only.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none for the penalty alone
        weight: w, >= 0
        penalty: R
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"
    weight: Annotated[float, Ge(0)] = 1e-3
    penalty: Literal["soft", "spectral"] = "spectral"

    def build(self, setting: Setting) -> nn.Module:
        return _Orthogonality(setting.loss(self.base), self)


class _Orthogonality(Wrapper):
    def __init__(self, base: Loss, settings: Orthogonality):
        super().__init__(base, "weights")
        self.settings = settings

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        loss = self.base_loss(z1, z2, labels, needed) + nothing(z1, z2)
        for weight in needed["weights"]:
            loss = loss + self.settings.weight * self._penalty(weight).to(loss.dtype)
        return loss

    def _penalty(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # half precision has no eigenvalues
            rows = wide(weight)
            gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T
            gap = gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            return gap.square().sum() if self.settings.penalty == "soft" else torch.linalg.eigvalsh(gap).abs().amax()
