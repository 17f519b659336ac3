from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from cl_semisup.contrast import both, logsumexp, nothing, unit
from cl_semisup.contrast.prototypes import random_unit
from cl_semisup.losses import Loss, Setting
from cl_semisup.losses._numbers import log_one_plus_exp
from cl_semisup.losses._wrapper import Wrapper
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class AntiCollapse:
    """Anti-collapse: any loss, plus a term that increases the coding rate of embeddings or of learned class proxies.

        L = L_base(z1, z2, labels) + w f(R),      f(R) = exp(-gamma R) or -gamma R

    `kind: pair`: R = 1/2 logdet( I + D / (m eps) Z^T Z ) of the m = 2N unit rows Z of both views; no labels.
    `kind: proxy`: R = 1/2 logdet( I + m / (D eps) P P^T ) of the m unit proxies P of the classes in the batch. To bring
    the proxies to the labelled images, ProxyAnchor is added, on the labelled rows z of both views:
        + w_a [ mean over classes c present of log(1 + sum_{y=c} e^{-a (z.p_c - d)})
              + mean over all classes c of     log(1 + sum_{y!=c} e^{a (z.p_c + d)}) ],   d = 0.1

    Group: wrappers
    Source: arXiv 2407.03106; NUST-Machine-Intelligence-Laboratory/Anti-Collapse-Loss criteria/antico.py
    Difference: a term beside any base loss (there: beside ProxyAnchor alone); two views; proxies learn at the network's
    rate (there: at a rate of their own, far larger); positives are averaged over classes as in ProxyAnchor (there: over
    images); the linear f is our addition, because exp(-R) vanishes for pairs once R is in the tens
    Degenerate: without a label the proxy terms are 0 with a graph. Equal rows have rank one and a finite rate.

    Args:
        base: the loss it is added to: a name, {name: settings}, or none
        weight: w, >= 0
        kind: what is spread: the rows, or the proxies
        form: f; for pairs exp(-R) is next to nothing once R is in the tens: take linear, or a small gamma
        eps: squared distortion of the code, > 0; 0.5 in the code
        rate: gamma, > 0
        alignment: w_a of ProxyAnchor, >= 0; 1 in the code, which has no base loss beside it
        sharpness: a of ProxyAnchor, > 0; 64 in the code
    """

    base: Annotated[Any, PluginField("losses", optional=True)] = "nt_xent"
    weight: Annotated[float, Ge(0)] = 1.0
    kind: Literal["pair", "proxy"] = "proxy"
    form: Literal["exp", "linear"] = "exp"
    eps: Annotated[float, Gt(0)] = 0.5
    rate: Annotated[float, Gt(0)] = 1.0
    alignment: Annotated[float, Ge(0)] = 0.1
    sharpness: Annotated[float, Gt(0)] = 32.0

    def build(self, setting: Setting) -> nn.Module:
        base = setting.loss(self.base)
        if self.kind == "pair":
            return _Spread(self, base)
        dim, classes = setting.require("anti_collapse")
        return _SpreadProxies(self, base, random_unit(classes, dim, setting.generator()))


MARGIN = 0.1  # d of ProxyAnchor


class _Spread(Wrapper):
    """The base loss and the coding rate of the batch's rows."""

    def __init__(self, settings: AntiCollapse, base: Loss):
        super().__init__(base)
        self.settings = settings

    def forward(self, z1: Tensor, z2: Tensor, labels: Tensor | None = None, **needed: Any) -> Tensor:
        return self.base_loss(z1, z2, labels, needed) + self.term(z1, z2, labels)

    def term(self, z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
        z = both(z1, z2)  # (m, D)
        rows, dim = z.shape
        return self.settings.weight * self._decrease(_coding_rate(z, dim / (rows * self.settings.eps)))

    def _decrease(self, rate: Tensor) -> Tensor:
        scaled = self.settings.rate * rate
        return (-scaled).exp() if self.settings.form == "exp" else -scaled


class _SpreadProxies(_Spread):
    """The base loss, ProxyAnchor, and the coding rate of `proxies` (C, D), which are trained with the network."""

    def __init__(self, settings: AntiCollapse, base: Loss, proxies: Tensor):
        super().__init__(settings, base)
        exempt = {**self.requirements.exempt, "rotation": "the proxies are directions of their own"}
        self.requirements = replace(self.requirements, labels=True, exempt=exempt)
        self.proxies = nn.Parameter(proxies)

    def term(self, z1: Tensor, z2: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            return nothing(z1, z2)
        z, proxies = both(z1, z2), unit(self.proxies)  # (2N, D), (C, D)
        proxies = proxies.to(z.dtype)
        labels = labels.repeat(2)
        of_class = labels[None, :] == torch.arange(len(proxies), device=z.device)[:, None]  # (C, 2N)
        present = of_class.any(dim=1)
        # Absent proxies become zero rows, which add ones to the determinant: the rate is that of those present.
        scale = present.sum().to(z.dtype) / (z.shape[1] * self.settings.eps)
        rate = _coding_rate(proxies * present[:, None], scale)
        spread = self.settings.weight * self._decrease(rate) * present.any()
        return spread + self.settings.alignment * self._anchored(proxies @ z.T, of_class, labels >= 0)

    def _anchored(self, similarity: Tensor, of_class: Tensor, labelled: Tensor) -> Tensor:
        """ProxyAnchor of the (C, 2N) cosines of proxies and rows."""
        present = of_class.any(dim=1)
        pull = logsumexp(-self.settings.sharpness * (similarity - MARGIN), of_class)  # (C,)
        push = logsumexp(self.settings.sharpness * (similarity + MARGIN), ~of_class & labelled)
        return log_one_plus_exp(pull).sum() / present.sum().clamp(min=1) + log_one_plus_exp(push).mean()


def _coding_rate(rows: Tensor, scale: Tensor | float) -> Tensor:
    """1/2 logdet(I + scale rows^T rows), on the smaller side of `rows` (m, D): both have the same determinant."""
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    gram = gram.to(rows.dtype)  # autocast may give half precision, which has no determinant
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.slogdet(identity + scale * gram).logabsdet / 2
