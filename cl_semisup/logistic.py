"""Multinomial logistic regression, converged: exact loss and gradient on the features' device, L-BFGS from scipy."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SoftmaxRegression:
    """A fitted softmax classifier on standardised features; `flat` holds W (C, F) and b (C,) in one vector."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    converged: bool
    flat: np.ndarray

    @classmethod
    def fit(
        cls,
        x: Tensor,
        y: Tensor,
        classes: int,
        strength: float,
        max_iterations: int = 1000,
        start: np.ndarray | None = None,
    ) -> "SoftmaxRegression":
        """L-BFGS on the exact loss and gradient, computed on the features' device; constant features are left at 0."""
        mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
        scale = torch.where(scale > 1e-6 * (1 + mean.abs()), scale, torch.inf)
        x = (x - mean) / scale
        target = torch.nn.functional.one_hot(y, classes).to(x.dtype)  # (M, C)
        count, width = x.shape

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            values = torch.from_numpy(flat).to(x)
            weight, bias = values[: classes * width].view(classes, width), values[classes * width :]
            log_p = (x @ weight.T + bias).log_softmax(dim=1)  # (M, C)
            loss = -(target * log_p).sum() / count + strength / 2 * weight.square().sum()
            slope = (log_p.exp() - target) / count  # (M, C)
            gradient = torch.cat([(slope.T @ x + strength * weight).flatten(), slope.sum(dim=0)])
            return float(loss), gradient.double().cpu().numpy()

        first = np.zeros(classes * (width + 1)) if start is None else start
        limits = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": 1e-4, "ftol": 1e-7}
        found = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=limits)
        values = torch.from_numpy(found.x).to(x)
        weight, bias = values[: classes * width].view(classes, width), values[classes * width :]
        return cls(mean, scale, weight, bias, bool(found.success), found.x)

    def logits(self, x: Tensor) -> Tensor:
        """(N, C) for raw features."""
        return ((x - self.mean) / self.scale) @ self.weight.T + self.bias

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of rows whose largest logit is their label."""
        return float((self.logits(x).argmax(dim=1) == y).double().mean())


def hold_out(labels: np.ndarray, share: float, name: int) -> np.ndarray | None:
    """(M,) bool: a stratified random part of the rows, at least one and not all of each class; None if impossible."""
    random = np.random.default_rng(name)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            return None
        held[members[: max(1, round(share * len(members)))]] = True
    return held
