"""Contrastive gradients on free embeddings: when does a learning rate collapse them, and what brings them back?

Embeddings are points on the sphere, moved directly; there is no network. N points are two views of N / 2 images, row i
and row i + N / 2 being the same image; w_ab is the softmax of s_ab / t over b != a.

    repulsion   z_a <- normalise(z_a - eta sum_b (w_ab + w_ba) z_b / t)       the simplified map: only what pushes apart
    gradient    z_a <- normalise(z_a - eta dL/dz_a)                          the same with what pulls views together
    tangent     z_a <- normalise(z_a - eta (I - z_a z_a^T) dL/dz_a)          the part that stays on the sphere
    free        y_a <- y_a - eta dL/dy_a,  z_a = y_a / |y_a|                 what autograd does to free vectors

with L the sum over anchors of NT-Xent. Under nearly uniform softmax the simplified map gives
z_mean' = (1 - 2 eta / t) z_mean: the mean dies out for eta < t and grows for eta > t until all points lie on one line.
CLOP's prototype term adds w sum_a (1 - z_a . A_{y_a}) to the summed loss, so it pulls every known z_a by eta w A_{y_a}.

Source: the linearisation of arXiv 2403.18699 and 2512.07880 as their reviews describe it; a reconstruction, since the
bound is not printed in what is public
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contrast import prototypes
from cl_semisup.measures.geometry import effective_rank
from cl_semisup.seeds import seed

STILL = 1e-9  # a map that moves nothing by more has arrived; going on would only make numbers denormal
Update = Callable[[Tensor, "Descent"], Tensor]


@dataclass(frozen=True)
class Descent:
    """One descent of free embeddings.

    Args:
        dynamics: which map moves the points
        rate: learning rate in units of the temperature, eta / t
        temperature: t
        images: N / 2
        dim: D
        classes: C, dealt to the images in turn
        label_fraction: share of the images that the prototype term sees
        weight: of the prototype term
        steps: of the map
        start: rank that the points start with: full, or that of one point with a little noise
        repetition: names the first points
    """

    dynamics: Literal["repulsion", "gradient", "tangent", "free"] = "repulsion"
    rate: Annotated[float, Gt(0)] = 0.5
    temperature: Annotated[float, Gt(0)] = 0.5
    images: Annotated[int, Interval(ge=2, le=1024)] = 64
    dim: Annotated[int, Interval(ge=2, le=512)] = 16
    classes: Annotated[int, Ge(2)] = 4
    label_fraction: Annotated[float, Interval(ge=0, le=1)] = 1.0
    weight: Annotated[float, Ge(0)] = 0.0
    steps: Annotated[int, Interval(ge=1, le=100_000)] = 500
    start: Literal["uniform", "collapsed"] = "uniform"
    repetition: int = 0


@dataclass(frozen=True)
class Course:
    """What came of a descent: the effective rank along it, and |mean| and mean |cosine| at its end."""

    rank: tuple[float, ...]
    mean_norm: float
    mean_cosine: float

    @property
    def final_rank(self) -> float:
        return self.rank[-1]


def descend(asked: Descent, points: int = 50) -> Course:
    """Run a descent in float64; `points` of its course are kept."""
    torch_seed = seed("free embeddings", asked.images, asked.dim, asked.repetition)
    random = torch.Generator().manual_seed(torch_seed)
    z = _start(asked, random)
    pull = _pull(asked, random)
    update = UPDATES[asked.dynamics]
    every = max(1, asked.steps // points)
    ranks = [float(effective_rank(F.normalize(z, dim=1)))]
    for step in range(asked.steps):
        before, z = z, update(z, asked) + asked.rate * asked.temperature * pull
        if asked.dynamics != "free":
            z = F.normalize(z, dim=1)
        if (step + 1) % every == 0 or step == asked.steps - 1:
            ranks.append(float(effective_rank(F.normalize(z, dim=1))))
            if float((z.abs() - before.abs()).abs().max()) < STILL:  # but for its sign, which may alternate
                ranks += [ranks[-1]] * (asked.steps // every - len(ranks) + 1)
                break
    u = F.normalize(z, dim=1)
    cosines = (u @ u.T).abs()
    off = (cosines.sum() - cosines.diagonal().sum()) / (len(u) * (len(u) - 1))
    return Course(tuple(ranks), float(u.mean(dim=0).norm()), float(off))


def _start(asked: Descent, random: torch.Generator) -> Tensor:
    """(N, D) unit rows; both views of an image start as one point."""
    rows = torch.randn(asked.images, asked.dim, generator=random, dtype=torch.float64)
    if asked.start == "collapsed":
        rows = rows[:1] + 1e-3 * rows
    z = F.normalize(rows, dim=1)
    return torch.cat([z, z])


def _pull(asked: Descent, random: torch.Generator) -> Tensor:
    """(N, D) minus the gradient of the prototype term; rows of unlabelled images are 0."""
    labels = torch.arange(asked.images) % asked.classes
    known = torch.arange(asked.images) < max(asked.classes, round(asked.label_fraction * asked.images))
    if not asked.weight or not asked.label_fraction:
        return torch.zeros(2 * asked.images, asked.dim, dtype=torch.float64)
    targets = prototypes.orthonormal(asked.classes, asked.dim, random, "dynamics").double()
    return asked.weight * (targets[labels] * known[:, None]).repeat(2, 1)


def _repulsion(z: Tensor, asked: Descent) -> Tensor:
    logits = z @ z.T / asked.temperature
    w = logits.fill_diagonal_(-math.inf).softmax(dim=1)  # (N, N)
    return z - asked.rate * (w + w.T) @ z


def _nt_xent(z: Tensor, asked: Descent) -> Tensor:
    """(N, D) gradient of the summed loss with respect to points that it does not normalise itself."""
    partner = z.roll(len(z) // 2, dims=0)
    logits = z @ z.T / asked.temperature
    w = logits.fill_diagonal_(-math.inf).softmax(dim=1)
    return ((w + w.T) @ z - 2 * partner) / asked.temperature


def _gradient(z: Tensor, asked: Descent) -> Tensor:
    return z - asked.rate * asked.temperature * _nt_xent(z, asked)


def _tangent(z: Tensor, asked: Descent) -> Tensor:
    gradient = _nt_xent(z, asked)
    along = (gradient * z).sum(dim=1, keepdim=True) * z
    return z - asked.rate * asked.temperature * (gradient - along)


def _free(y: Tensor, asked: Descent) -> Tensor:
    """Through the normalisation: the tangent part over the norm, which grows with every step."""
    norms = y.norm(dim=1, keepdim=True)
    z = y / norms
    gradient = _nt_xent(z, asked)
    along = (gradient * z).sum(dim=1, keepdim=True) * z
    return y - asked.rate * asked.temperature * (gradient - along) / norms


UPDATES: dict[str, Update] = {"repulsion": _repulsion, "gradient": _gradient, "tangent": _tangent, "free": _free}


# minimisers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Minimiser:
    """What a loss converges to on free embeddings of M images: mean cosine of views, mean and spread of the others."""

    alignment: float
    cosine: float
    spread: float


def minimise(named: dict[str, dict[str, Any]], images: int, dim: int, steps: int = 2000) -> Minimiser:
    """Normalised gradient descent with a rate that falls to 0; float64.

    With M <= D + 1 images the minimisers of NT-Xent, DHEL and kernel losses are one: views equal, images a regular
    simplex with cosines -1 / (M - 1).
    """
    (name, params) = next(iter(named.items()))
    loss = losses.build(name, dim=dim, classes=2, **params)
    random = torch.Generator().manual_seed(seed("minimiser", images, dim))
    z = F.normalize(torch.randn(2, images, dim, generator=random, dtype=torch.float64), dim=2)
    for step in range(steps):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z[0], z[1]), z)
        size = gradient.norm(dim=2, keepdim=True).mean().clamp(min=1e-12)
        with torch.no_grad():
            z = F.normalize(z - 0.3 * (1 - step / steps) ** 2 * gradient / size, dim=2)
    u, v = z.detach()
    others = (u @ u.T)[~torch.eye(images, dtype=torch.bool)]
    return Minimiser(float((u * v).sum(dim=1).mean()), float(others.mean()), float(others.max() - others.min()))


# stationary points --------------------------------------------------------------------------------------------------


def tangent_gradient(signs: Literal["equal", "antipodal"], images: int = 32, dim: int = 8, t: float = 0.5) -> float:
    """Norm of NT-Xent's gradient on the sphere where all points are equal, or lie on one line."""
    random = torch.Generator().manual_seed(seed("stationary", images, dim))
    axis = F.normalize(torch.randn(dim, generator=random, dtype=torch.float64), dim=0)
    sign = torch.ones(2 * images, dtype=torch.float64)
    if signs == "antipodal":
        sign = torch.randint(0, 2, (2 * images,), generator=random).double() * 2 - 1
    z = sign[:, None] * axis
    gradient = _nt_xent(z, Descent(temperature=t, images=images, dim=dim))
    return float((gradient - (gradient * z).sum(dim=1, keepdim=True) * z).norm())


def escape(noise: float, shared: bool, images: int = 32, dim: int = 8, t: float = 0.5) -> float:
    """Change of NT-Xent's mean when equal points are moved: each image's views alike, or every point on its own."""
    random = torch.Generator().manual_seed(seed("escape", images, dim))
    loss = losses.build("nt_xent", temperature=t)
    axis = F.normalize(torch.randn(dim, generator=random, dtype=torch.float64), dim=0)
    z = axis.expand(2, images, dim)
    moved = torch.randn(2, images, dim, generator=random, dtype=torch.float64)
    moved = moved[:1].expand(2, -1, -1) if shared else moved
    after = z + noise * moved
    return float(loss(after[0], after[1]) - loss(z[0], z[1]))
