"""Converged multinomial logistic regression: loss and gradient on the features' device, L-BFGS from scipy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_semisup.measures.column_scale import column_scale

STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))  # candidate weight penalties, strongest first
DEFAULT_STRENGTH = 1e-2  # used if there are too few labels to choose
SEARCH_TOLERANCE = 1e-5  # of the fits that choose the penalty


@dataclass(frozen=True, eq=False)
class StandardisedFeatures:
    """Features prepared for fits with any penalty.

    `rows` (M, F) have mean 0 and standard deviation 1; constant features are 0. `eigenvalues` (F,) and `eigenvectors`
    (F, F) are those of X^T X / 2M, an upper bound of the softmax's curvature (Boehning 1992).
    """

    mean: Tensor
    scale: Tensor
    rows: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "StandardisedFeatures":
        """From (M, F) raw features."""
        mean = x.mean(dim=0)
        scale = column_scale(mean, x.std(dim=0, correction=0))
        rows = (x - mean) / scale
        device = x.device if x.device.type != "mps" else torch.device("cpu")  # MPS has no float64
        eigenvalues, eigenvectors = torch.linalg.eigh((rows.T @ rows / (2 * len(rows))).to(device, torch.float64))
        return cls(mean, scale, rows, eigenvalues.clamp(min=0), eigenvectors)

    def preconditioner(self, strength: float) -> Tensor:
        """(F, F) map to coordinates with more even curvature: V / (v + s)^(1/4)."""
        return (self.eigenvectors / (self.eigenvalues + max(strength, 1e-6)) ** 0.25).to(self.rows)


@dataclass(frozen=True, eq=False)
class SoftmaxRegression:
    """A fitted softmax classifier on standardised features.

        min over W, b of  mean_i -log softmax(W x_i + b)_{y_i} + s/2 |W|^2

    `weight` (C, F) and `bias` (C,) act on features standardised with `mean` and `scale` (F,). `start` (C, F + 1) can be
    the starting point of a fit with another penalty.
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
        x: Tensor | StandardisedFeatures,
        y: Tensor,
        classes: int,
        strength: float,
        *,
        max_iterations: int = 1000,
        start: Tensor | None = None,
        tolerance: float = 1e-6,
    ) -> "SoftmaxRegression":
        """L-BFGS until a step changes the loss by at most `tolerance` times max(loss, 1).

        `x` are raw features, or features prepared once for several fits. `start` comes from another fit with the same
        numbers of features and classes.

        The search uses preconditioned coordinates, which do not change the minimum. They halved the number of steps to
        within 1e-4 of the minimum on digits, and saved less on synthetic features (256 dimensions, 50 classes) at weak
        penalties; the full preconditioner with exponent 1/2 needed more steps on digits.
        """
        from scipy.optimize import minimize  # imported here: it takes 0.3 s, and most commands do not need it

        features = x if isinstance(x, StandardisedFeatures) else StandardisedFeatures.of(x)
        mean, scale, p = features.mean, features.scale, features.preconditioner(strength)  # (F,), (F,), (F, F)
        x = features.rows @ p
        del features  # frees the rows, unless the caller needs them for another fit
        count, width = x.shape
        x_t = x.T.contiguous()  # (F, M)
        penalty = strength * p.T @ p  # s |W P^T|^2 = s W (P^T P) W^T
        label, one = y[None], x.new_ones(1, count)

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            values = torch.from_numpy(flat).to(x).view(classes, width + 1)
            weight, bias = values[:, :width], values[:, width]
            # classes are the first axis: softmax over a short last axis would take most of the time
            log_p = torch.addmm(bias[:, None], weight, x_t).log_softmax(dim=0)  # (C, M)
            penalty_grad = weight @ penalty  # (C, F)
            loss = -log_p.gather(0, label).double().mean() + (weight * penalty_grad).double().sum() / 2
            logit_grad = log_p.exp_().scatter_add_(0, label, -one).div_(count)  # (C, M)
            gradient = torch.cat([logit_grad @ x + penalty_grad, logit_grad.sum(dim=1)[:, None]], dim=1)
            return float(loss), gradient.flatten().double().cpu().numpy()

        first = np.zeros(classes * (width + 1))
        if start is not None:
            weight = torch.linalg.solve(p, start[:, :width].T).T
            first = torch.cat([weight, start[:, width:]], dim=1).flatten().double().cpu().numpy()
        limits = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": 1e-5, "ftol": tolerance}
        result = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=limits)
        values = torch.from_numpy(result.x).to(x).view(classes, width + 1)
        weight, bias = values[:, :width] @ p.T, values[:, width]
        return cls(mean, scale, weight, bias, bool(result.success), torch.cat([weight, bias[:, None]], dim=1))

    def logits(self, x: Tensor) -> Tensor:
        """(N, C) logits of raw features."""
        return ((x - self.mean) / self.scale) @ self.weight.T + self.bias

    def right(self, x: Tensor, y: Tensor) -> Tensor:
        """(N,) bool: is the largest logit that of the row's label?"""
        return self.logits(x).argmax(dim=1) == y

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of rows whose largest logit is that of their label."""
        return float(self.right(x, y).double().mean())


@dataclass(frozen=True, eq=False)
class TunedProbe:
    """A softmax regression whose penalty was chosen on held-out rows; it was then fitted on all rows.

    `validation` is the held-out accuracy of this penalty; None if no rows could be held out.
    """

    probe: SoftmaxRegression
    strength: float
    validation: float | None


def tune(x: Tensor, y: Tensor, classes: int, *, share: float, seed: int, max_iterations: int = 1000) -> TunedProbe:
    """Choose the best of `STRENGTHS` on held-out rows (the strongest of equals), then fit on all rows.

    Args:
        x, y: (M, F) features and (M,) labels, none of them -1
        share: share of each class that is held out; if a class has a single row, the strength is DEFAULT_STRENGTH
        seed: of the random choice of held-out rows
    """
    held_out = hold_out(y.cpu().numpy(), share, seed)
    best, best_score, best_start, start = DEFAULT_STRENGTH, None, None, None
    options: dict[str, Any] = {"max_iterations": max_iterations}
    if held_out is not None:
        held = torch.from_numpy(held_out).to(y.device)
        features, labels = StandardisedFeatures.of(x[~held]), y[~held]
        for strength in STRENGTHS:
            probe = SoftmaxRegression.fit(
                features, labels, classes, strength, start=start, tolerance=SEARCH_TOLERANCE, **options
            )
            score = probe.accuracy(x[held], y[held])
            start = probe.start  # of the next, weaker penalty
            if best_score is None or score > best_score:
                best, best_score, best_start = strength, score, start
    return TunedProbe(SoftmaxRegression.fit(x, y, classes, best, start=best_start, **options), best, best_score)


def hold_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray | None:
    """(M,) bool mask of a stratified random part: at least one row of each class, never all; None if impossible."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            return None
        held[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    return held
