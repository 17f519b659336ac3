from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from cl_semisup.contrast import nothing, others, squared_distances, unit
from cl_semisup.errors import InputError

MIN_SQUARED_DISTANCE = 1e-8  # below it a Riesz kernel, which is infinite at 0, is constant


@dataclass(frozen=True)
class KCL:
    """Kernel contrastive loss: views of an image are close, images of a view are apart, both by a kernel's mean.

        L = -2 mean_i K(u_i, v_i) + g [ mean_{i<j} K(u_i, u_j) + mean_{i<j} K(v_i, v_j) ],    d = |x - y|

    gaussian        K = exp(-t d^2)
    log             K = -log(t d^2 + 1) between views, half of that between images
    imq             K = t / sqrt(t^2 + d^2)
    riesz           K = d^-t  (t > 0)  or  -d^-t  (t < 0)
    gaussian_riesz  riesz between images, gaussian with 2 in place of t between views

    These are means, not logarithms of means, so the expected value does not depend on the batch size.

    Group: further
    Source: arXiv 2405.18045; pakoromilas/DHEL-KCL losses.py, utils.py
    Difference: None; the log kernel follows the published code, where its energy has a factor 1/2 that its alignment
    lacks. Riesz kernels are cut off at d = 1e-4, where they have no gradient
    Degenerate: one image has no pairs; only the alignment is left. riesz with t > 0 is unbounded below, since views
    that coincide are infinitely similar: use gaussian_riesz. Labels are ignored.

    Args:
        kernel: K
        t: the kernel's parameter: > 0, for the riesz kernels also < 0
        gamma: g, weight of the energies, >= 0
    """

    kernel: Literal["gaussian", "log", "imq", "riesz", "gaussian_riesz"] = "gaussian"
    t: float = 2.0
    gamma: Annotated[float, Ge(0)] = 16.0

    def __post_init__(self) -> None:
        riesz = "riesz" in self.kernel
        if self.t == 0 or (self.t < 0 and not riesz):
            rule = "must not be 0" if riesz else f"must be above 0 for kernel {self.kernel}"
            raise InputError(f"kcl: t {rule}. Got {self.t}. Change it.")

    def __call__(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None) -> Tensor:
        u, v = unit(z1), unit(z2)  # (N, D)
        loss = -2 * self._alignment((u - v).square().sum(dim=1)).mean() + nothing(z1, z2)
        if len(u) < 2:
            return loss
        return loss + self.gamma * (self._energy(u) + self._energy(v))

    def _energy(self, rows: Tensor) -> Tensor:
        """Mean kernel over the pairs of one view."""
        other = others(len(rows), rows.device)
        apart = squared_distances(rows).masked_fill(~other, 1.0)  # (N, N)
        kernel = _kernel(self.kernel.removeprefix("gaussian_"), apart, self.t)
        factor = 0.5 if self.kernel == "log" else 1.0
        return factor * kernel.masked_fill(~other, 0.0).sum() / other.sum()

    def _alignment(self, apart: Tensor) -> Tensor:
        if self.kernel == "gaussian_riesz":
            return _kernel("gaussian", apart, 2.0)
        return _kernel(self.kernel, apart, self.t)


def _kernel(name: str, apart: Tensor, t: float) -> Tensor:
    """The kernel at squared distances."""
    if name == "gaussian":
        return torch.exp(-t * apart)
    if name == "log":
        return -torch.log1p(t * apart)
    if name == "imq":
        return t * (t**2 + apart).rsqrt()
    return (1 if t > 0 else -1) * apart.clamp(min=MIN_SQUARED_DISTANCE) ** (-t / 2)
