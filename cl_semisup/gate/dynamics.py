"""Contrastive gradients on free embeddings: which learning rates make them collapse, and what restores their rank?

Embeddings are points on the sphere that are moved directly, without a network. N points are two views of N / 2 images:
rows i and i + N / 2 are views of the same image. w_ab is the softmax of s_ab / t over b != a.

    repulsion        z_a <- normalise(z_a - eta sum_b (w_ab + w_ba) z_b / t)  the repulsive part of the gradient only
    one_sided        z_a <- normalise(z_a - eta sum_b w_ab z_b / t)           its part from the anchor's own term
    without_partner  as repulsion, w without the partner: b also != partner of a
    other_images     as repulsion, w with the partner, the sum over b without it
    gradient         z_a <- normalise(z_a - eta dL/dz_a)                      the gradient, with the attraction of views
    tangent          z_a <- normalise(z_a - eta (I - z_a z_a^T) dL/dz_a)      its component tangent to the sphere
    free             y_a <- y_a - eta dL/dy_a,  z_a = y_a / |y_a|             autograd on vectors that are not unit rows

L is the sum over anchors of NT-Xent. For a nearly uniform softmax, repulsion gives z_mean' = (1 - 2 eta / t) z_mean:
the mean vanishes for eta < t; for eta > t it grows until all points lie on one line. One-sided it is
z_mean' = (1 - eta / t) z_mean, and the threshold is 2 t. At t = 0.1 the softmax is not uniform: the rank falls
gradually, and beyond the threshold clusters are left, no line. There the partner, at s = 1, has most of the softmax: a
sum over other images alone is smaller by 1 - w_partner, about a ninth for 64 random images in 16 dimensions, and its
threshold is nine times as high. CLOP's prototype term adds w sum_a (1 - z_a . A_{y_a})
to the summed loss, so it moves every labelled z_a by eta w A_{y_a}.

Source: the linearisation of arXiv 2403.18699 and 2512.07880 as their reviews describe it. This is a reconstruction: the
public texts do not print the bound.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

from cl_semisup import losses
from cl_semisup.contrast import prototypes
from cl_semisup.measures.geometry import effective_rank
from cl_semisup.seeds import seed

CONVERGED = 1e-9  # smallest change of a coordinate; further steps would only make numbers denormal
Update = Callable[[Tensor, "Descent"], Tensor]


@dataclass(frozen=True)
class Descent:
    """Settings of one descent of free embeddings; the field names are YAML keys.

    Args:
        dynamics: the map that moves the points
        rate: learning rate in units of the temperature, eta / t
        temperature: t
        images: N / 2
        dim: D
        classes: C; image i has class i mod C
        label_fraction: share of the images that the prototype term sees
        weight: weight of the prototype term
        steps: number of steps
        start: initial points: uniform on the sphere, or one point with a little noise
        repetition: seed of the initial points
    """

    dynamics: Literal["repulsion", "one_sided", "without_partner", "other_images", "gradient", "tangent", "free"] = (
        "repulsion"
    )
    rate: Annotated[float, Interval(gt=0, le=1e6)] = 0.5
    temperature: Annotated[float, Interval(ge=1e-3, le=1e3)] = 0.5
    images: Annotated[int, Interval(ge=2, le=1024)] = 64
    dim: Annotated[int, Interval(ge=2, le=512)] = 16
    classes: Annotated[int, Ge(2)] = 4
    label_fraction: Annotated[float, Interval(ge=0, le=1)] = 1.0
    weight: Annotated[float, Interval(ge=0, le=1e6)] = 0.0
    steps: Annotated[int, Interval(ge=1, le=100_000)] = 500
    start: Literal["uniform", "collapsed"] = "uniform"
    repetition: int = 0


@dataclass(frozen=True)
class RankTrajectory:
    """Effective ranks along a descent, and |mean| and mean |cosine| of the points at its end."""

    ranks: tuple[float, ...]
    mean_norm: float
    mean_cosine: float

    @property
    def final_rank(self) -> float:
        return self.ranks[-1]


def run_descent(descent: Descent, points: int = 50) -> RankTrajectory:
    """Runs a descent in float64; about `points` ranks are recorded."""
    torch_seed = seed("free embeddings", descent.images, descent.dim, descent.repetition)
    random = torch.Generator().manual_seed(torch_seed)
    z = _initial_points(descent, random)
    pull = _prototype_pull(descent, random)
    update = UPDATES[descent.dynamics]
    every = max(1, descent.steps // points)
    ranks = [_rank(z)]
    for step in range(descent.steps):
        before, z = z, update(z, descent) + descent.rate * descent.temperature * pull
        if descent.dynamics != "free":
            z = F.normalize(z, dim=1)
        if (step + 1) % every == 0 or step == descent.steps - 1:
            ranks.append(_rank(z))
            if float((z.abs() - before.abs()).abs().max()) < CONVERGED:  # signs may alternate
                ranks += [ranks[-1]] * (descent.steps // every - len(ranks) + 1)
                break
    u = F.normalize(z, dim=1)
    cosines = (u @ u.T).abs()
    off = (cosines.sum() - cosines.diagonal().sum()) / (len(u) * (len(u) - 1))
    return RankTrajectory(tuple(ranks), float(u.mean(dim=0).norm()), float(off))


def _rank(z: Tensor) -> float:
    """The effective rank of the unit rows; NaN where they are not finite."""
    u = F.normalize(z, dim=1)
    return float(effective_rank(u)) if u.isfinite().all() else math.nan


def _initial_points(descent: Descent, random: torch.Generator) -> Tensor:
    """(N, D) unit rows; both views of an image begin at one point."""
    rows = torch.randn(descent.images, descent.dim, generator=random, dtype=torch.float64)
    if descent.start == "collapsed":
        rows = rows[:1] + 1e-3 * rows
    z = F.normalize(rows, dim=1)
    return torch.cat([z, z])


def _prototype_pull(descent: Descent, random: torch.Generator) -> Tensor:
    """(N, D) negative gradient of the prototype term; rows of unlabelled images are 0."""
    labels = torch.arange(descent.images) % descent.classes
    labelled = torch.arange(descent.images) < max(descent.classes, round(descent.label_fraction * descent.images))
    if not descent.weight or not descent.label_fraction:
        return torch.zeros(2 * descent.images, descent.dim, dtype=torch.float64)
    targets = prototypes.orthonormal(descent.classes, descent.dim, random, "dynamics").double()
    return descent.weight * (targets[labels] * labelled[:, None]).repeat(2, 1)


def _softmax(z: Tensor, descent: Descent) -> Tensor:
    """(N, N) w, with a diagonal of 0."""
    logits = z @ z.T / descent.temperature
    return logits.fill_diagonal_(-math.inf).softmax(dim=1)


def _repulsion(z: Tensor, descent: Descent) -> Tensor:
    w = _softmax(z, descent)
    return z - descent.rate * (w + w.T) @ z


def _one_sided(z: Tensor, descent: Descent) -> Tensor:
    return z - descent.rate * _softmax(z, descent) @ z


def _without_partner(z: Tensor, descent: Descent) -> Tensor:
    w = _of_other_images(_softmax(z, descent))
    w = w / w.sum(dim=1, keepdim=True)
    return z - descent.rate * (w + w.T) @ z


def _other_images(z: Tensor, descent: Descent) -> Tensor:
    w = _of_other_images(_softmax(z, descent))
    return z - descent.rate * (w + w.T) @ z


def _of_other_images(w: Tensor) -> Tensor:
    """(N, N) the same, with 0 at the partner of each row."""
    return w - w * torch.eye(len(w)).roll(len(w) // 2, dims=0)


def _nt_xent(z: Tensor, descent: Descent) -> Tensor:
    """(N, D) gradient of the summed loss to z, without the normalisation of z."""
    partner = z.roll(len(z) // 2, dims=0)
    w = _softmax(z, descent)
    return ((w + w.T) @ z - 2 * partner) / descent.temperature


def _gradient(z: Tensor, descent: Descent) -> Tensor:
    return z - descent.rate * descent.temperature * _nt_xent(z, descent)


def _tangent(z: Tensor, descent: Descent) -> Tensor:
    return z - descent.rate * descent.temperature * _tangent_part(_nt_xent(z, descent), z)


def _free(y: Tensor, descent: Descent) -> Tensor:
    """The gradient through the normalisation is the tangent part over the norm, which grows with every step."""
    norms = y.norm(dim=1, keepdim=True)
    z = y / norms
    return y - descent.rate * descent.temperature * _tangent_part(_nt_xent(z, descent), z) / norms


def _tangent_part(gradient: Tensor, z: Tensor) -> Tensor:
    return gradient - (gradient * z).sum(dim=1, keepdim=True) * z


UPDATES: dict[str, Update] = {
    "repulsion": _repulsion,
    "one_sided": _one_sided,
    "without_partner": _without_partner,
    "other_images": _other_images,
    "gradient": _gradient,
    "tangent": _tangent,
    "free": _free,
}


@dataclass(frozen=True)
class Minimiser:
    """Free embeddings that minimise a loss: mean cosine of an image's views; mean and range of images' cosines."""

    view_cosine: float
    image_cosine: float
    image_cosine_range: float


def minimise(named_loss: dict[str, dict[str, Any]], images: int, dim: int, steps: int = 2000) -> Minimiser:
    """Normalised gradient descent with a rate that falls to 0; float64.

    For M <= D + 1 images NT-Xent, DHEL and kernel losses have the same minimiser: equal views, and images that form a
    regular simplex with cosines -1 / (M - 1).
    """
    (name, params) = next(iter(named_loss.items()))
    loss = losses.build(name, dim=dim, classes=2, **params)
    random = torch.Generator().manual_seed(seed("minimiser", images, dim))
    z = F.normalize(torch.randn(2, images, dim, generator=random, dtype=torch.float64), dim=2)
    for step in range(steps):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z[0], z[1]), z)
        mean_norm = gradient.norm(dim=2, keepdim=True).mean().clamp(min=1e-12)
        with torch.no_grad():
            z = F.normalize(z - 0.3 * (1 - step / steps) ** 2 * gradient / mean_norm, dim=2)
    u, v = z.detach()
    others = (u @ u.T)[~torch.eye(images, dtype=torch.bool)]
    return Minimiser(float((u * v).sum(dim=1).mean()), float(others.mean()), float(others.max() - others.min()))


def stationary_gradient_norm(signs: Literal["equal", "antipodal"], images: int = 32, dim: int = 8) -> float:
    """Norm of NT-Xent's tangent gradient where all points are equal, or equal up to their sign."""
    random = torch.Generator().manual_seed(seed("stationary", images, dim))
    axis = F.normalize(torch.randn(dim, generator=random, dtype=torch.float64), dim=0)
    sign = torch.ones(2 * images, dtype=torch.float64)
    if signs == "antipodal":
        sign = torch.randint(0, 2, (2 * images,), generator=random).double() * 2 - 1
    z = sign[:, None] * axis
    gradient = _nt_xent(z, Descent(temperature=0.5, images=images, dim=dim))
    return float(_tangent_part(gradient, z).norm())


def loss_change(noise: float, shared: bool, images: int = 32, dim: int = 8) -> float:
    """Change of NT-Xent's mean by noise on equal points; `shared` adds the same noise to both views of an image."""
    random = torch.Generator().manual_seed(seed("escape", images, dim))
    loss = losses.build("nt_xent", temperature=0.5)
    axis = F.normalize(torch.randn(dim, generator=random, dtype=torch.float64), dim=0)
    z = axis.expand(2, images, dim)
    directions = torch.randn(2, images, dim, generator=random, dtype=torch.float64)
    after = z + noise * (directions[:1] if shared else directions)
    return float(loss(after[0], after[1]) - loss(z[0], z[1]))
