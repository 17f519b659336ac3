"""Multinomial logistic regression, converged: exact loss and gradient on the features' device, L-BFGS from scipy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))  # weight penalties tried, strongest first
DEFAULT_STRENGTH = 1e-2  # where labels are too few to choose
SEARCH_TOLERANCE = 1e-5  # of a fit whose penalty is on trial


@dataclass(frozen=True, eq=False)
class Standardised:
    """Features made ready for fits with any penalty.

    `rows` (M, F) have mean 0 and deviation 1, constant features are 0. `curvature` (F,) and `directions` (F, F) are
    eigenvalues and -vectors of X^T X / 2M, which bounds the softmax's curvature (Boehning 1992).
    """

    mean: Tensor
    scale: Tensor
    rows: Tensor
    curvature: Tensor
    directions: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Standardised":
        """(M, F) raw features."""
        mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
        scale = torch.where(scale > 1e-6 * (1 + mean.abs()), scale, torch.inf)
        rows = (x - mean) / scale
        home = x.device if x.device.type != "mps" else torch.device("cpu")
        curvature, directions = torch.linalg.eigh((rows.T @ rows / (2 * len(rows))).to(home, torch.float64))
        return cls(mean, scale, rows, curvature.clamp(min=0), directions)

    def turn(self, strength: float) -> Tensor:
        """(F, F) to coordinates of more even curvature: V / (v + s)^(1/4)."""
        return (self.directions / (self.curvature + max(strength, 1e-6)) ** 0.25).to(self.rows)


@dataclass(frozen=True, eq=False)
class SoftmaxRegression:
    """A fitted softmax classifier on standardised features.

        min over W, b of  mean_i -log softmax(W x_i + b)_{y_i} + s/2 |W|^2

    `weight` (C, F) and `bias` (C,) act on standardised features, `mean` and `scale` (F,); `start` is where a fit with
    another penalty may begin.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    converged: bool
    start: Tensor

    @classmethod
    def fit(
        cls,
        x: Tensor | Standardised,
        y: Tensor,
        classes: int,
        strength: float,
        *,
        max_iterations: int = 1000,
        start: Tensor | None = None,
        tolerance: float = 1e-6,
    ) -> "SoftmaxRegression":
        """L-BFGS on the exact loss and gradient until a step changes the loss (1 if it is less) by `tolerance` of it.

        `x` are raw features, or made ready once for several fits. `start` is that of another fit to as many features
        and classes.

        The weights are searched in coordinates that even out the curvature of correlated features; the minimum is the
        same. That took half as many steps to within 1e-4 of the minimum on digits, and more than half on synthetic
        features (256 dimensions, 50 classes) at weak penalties; evening it out in full took more steps on digits.
        """
        from scipy.optimize import minimize  # a third of a second that most commands can do without

        known = x if isinstance(x, Standardised) else Standardised.of(x)
        mean, scale, turn = known.mean, known.scale, known.turn(strength)  # (F,), (F,), (F, F)
        x = known.rows @ turn
        del known  # gives its rows back, unless the caller has another fit to do
        count, width = x.shape
        across = x.T.contiguous()  # (F, M)
        penalty = strength * turn.T @ turn  # s |V turn^T|^2 = s V (turn^T turn) V^T
        label, one = y[None], x.new_ones(1, count)

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            values = torch.from_numpy(flat).to(x).view(classes, width + 1)
            weight, bias = values[:, :width], values[:, width]
            # classes first: a softmax over ten numbers side by side takes longer than all the rest
            log_p = torch.addmm(bias[:, None], weight, across).log_softmax(dim=0)  # (C, M)
            pulled = weight @ penalty  # (C, F)
            loss = -log_p.gather(0, label).double().mean() + (weight * pulled).double().sum() / 2
            slope = log_p.exp_().scatter_add_(0, label, -one).div_(count)  # (C, M)
            gradient = torch.cat([slope @ x + pulled, slope.sum(dim=1)[:, None]], dim=1)
            return float(loss), gradient.flatten().double().cpu().numpy()

        first = np.zeros(classes * (width + 1))
        if start is not None:
            weight = torch.linalg.solve(turn, start[:, :width].T).T
            first = torch.cat([weight, start[:, width:]], dim=1).flatten().double().cpu().numpy()
        limits = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": 1e-5, "ftol": tolerance}
        found = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=limits)
        values = torch.from_numpy(found.x).to(x).view(classes, width + 1)
        weight, bias = values[:, :width] @ turn.T, values[:, width]
        return cls(mean, scale, weight, bias, bool(found.success), torch.cat([weight, bias[:, None]], dim=1))

    def logits(self, x: Tensor) -> Tensor:
        """(N, C) for raw features."""
        return ((x - self.mean) / self.scale) @ self.weight.T + self.bias

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of rows whose largest logit is their label."""
        return float((self.logits(x).argmax(dim=1) == y).double().mean())


@dataclass(frozen=True, eq=False)
class Tuned:
    """A softmax regression whose penalty was chosen on held-out rows, then fitted on all.

    `validation` is the accuracy behind the choice, None where nothing could be held out.
    """

    probe: SoftmaxRegression
    strength: float
    validation: float | None


def tune(x: Tensor, y: Tensor, classes: int, *, share: float, name: int, max_iterations: int = 1000) -> Tuned:
    """The best of `STRENGTHS` on a stratified part of the rows (the strongest of equals), fitted again on all of them.

    Args:
        x, y: (M, F) features and (M,) labels, none of them -1
        share: of each class held out; where a class has a single row nothing can be, and the strength is 0.01
        name: seed of the part
    """
    held_out = hold_out(y.cpu().numpy(), share, name)
    best, best_score, best_start, start = DEFAULT_STRENGTH, None, None, None
    options: dict[str, Any] = {"max_iterations": max_iterations}
    if held_out is not None:
        held = torch.from_numpy(held_out).to(y.device)
        kept, labels = Standardised.of(x[~held]), y[~held]
        for strength in STRENGTHS:
            probe = SoftmaxRegression.fit(
                kept, labels, classes, strength, start=start, tolerance=SEARCH_TOLERANCE, **options
            )
            score = probe.accuracy(x[held], y[held])
            start = probe.start  # the next, weaker penalty starts where this one ended
            if best_score is None or score > best_score:
                best, best_score, best_start = strength, score, start
    return Tuned(SoftmaxRegression.fit(x, y, classes, best, start=best_start, **options), best, best_score)


def hold_out(labels: np.ndarray, share: float, name: int) -> np.ndarray | None:
    """(M,) bool: a stratified random part of the rows, at least one and not all of each class; None if impossible."""
    random = np.random.default_rng(name)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            return None
        held[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    return held
