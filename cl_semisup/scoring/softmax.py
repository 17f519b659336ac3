"""Softmax regressions on many label sets: the linear probe's problem (`measures/logistic.py`), solved faster.

Rows are turned into the eigenvectors of their own covariance. There the penalty is still |W|^2, the directions without
variance can be left out (fewer rows than features), and one factor a direction evens the curvature. Large sets are read
chunk by chunk in the type that they are stored in, so they are never copied.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cl_semisup.scoring.moments import Moments
from cl_semisup.scoring.rows import Rows

IN_MEMORY = 12_000_000  # numbers of turned rows that are kept (48 MB); larger sets are read anew in each step
MAX_ITERATIONS = 1000
Solution = tuple[Tensor, Tensor]  # W (C, R) and b (C,)


class SoftmaxProblem:
    """The loss of one label set, in the directions of its moments.

        min over W, b of  mean_i -log softmax(W z_i + b)_{y_i} + s/2 |W|^2,   z_i = V^T (x_i - mean) / scale

    `steps` counts evaluations of the loss; `converged` is of the last fit.
    """

    def __init__(self, rows: Rows, labels: np.ndarray, moments: Moments):
        self.rows, self.labels, self.moments = rows, torch.from_numpy(labels), moments
        self.classes, self.rank = moments.class_sums.shape
        self.steps, self.converged = 0, True
        self.map = (moments.directions * moments.inverse_scale[:, None]).float()  # (F, R)
        self.shift = (moments.mean * moments.inverse_scale @ moments.directions).float()  # (R,)
        small = len(rows) * self.rank <= IN_MEMORY
        self.turned = self._turn() if small else None  # (M, R)

    def _turn(self) -> Tensor:
        turned = torch.empty(len(self.rows), self.rank)
        center, turn = self.moments.mean.float(), self.map
        for part, chunk in self.rows.chunks():
            torch.mm(chunk.sub_(center), turn, out=turned[part])
        return turned

    def _chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Turned rows, or raw ones of a set that is too large to keep turned."""
        return iter([(slice(0, len(self.rows)), self.turned)]) if self.turned is not None else self.rows.chunks()

    def solve(self, strength: float, start: Solution | None, tolerance: float) -> Solution:
        """L-BFGS from `start` until a step changes the loss by at most `tolerance` times max(loss, 1).

        Where all classes are equally likely the curvature along a direction of variance v is v / C + s, so its root
        is the unit of that direction.
        """
        from scipy.optimize import minimize  # imported here: it takes 0.3 s

        weight, bias = start or (torch.zeros(self.classes, self.rank), torch.zeros(self.classes))
        unit = (self.moments.variances / self.classes + strength).rsqrt().float()  # (R,)

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            values = torch.from_numpy(flat).float().view(self.classes, self.rank + 1)
            w, b = values[:, :-1] * unit, values[:, -1].contiguous()
            loss, gradient, offsets = self._loss(w, b)
            self.steps += 1
            loss += strength / 2 * float(w.square().sum(dtype=torch.float64))
            gradient = torch.cat([gradient.add_(w, alpha=strength).mul_(unit), offsets[:, None]], dim=1)
            return loss, gradient.double().flatten().numpy()

        first = torch.cat([weight / unit, bias[:, None]], dim=1).double().flatten().numpy()
        limits = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": 1e-5, "ftol": tolerance}
        result = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=limits)
        self.converged = bool(result.success)
        values = torch.from_numpy(result.x).float().view(self.classes, self.rank + 1)
        return values[:, :-1] * unit, values[:, -1].contiguous()

    def _loss(self, w: Tensor, b: Tensor) -> tuple[float, Tensor, Tensor]:
        """Mean cross-entropy, and its gradient in W (C, R) and b (C,)."""
        total, raw = torch.zeros((), dtype=torch.float64), self.turned is None
        if raw:
            b = b - w @ self.shift
            w = w @ self.map.T  # (C, F), acting on raw rows
        gradient, offsets = torch.zeros_like(w), torch.zeros_like(b)
        for part, x in self._chunks():
            # classes are the first axis: softmax over a short last axis would take most of the time
            label = self.labels[part][None]
            log_p = torch.addmm(b[:, None], w, x.T).log_softmax(dim=0)  # (C, n)
            total -= log_p.gather(0, label).sum(dtype=torch.float64)
            error = log_p.exp_().scatter_add_(0, label, log_p.new_full((1, 1), -1.0).expand(1, label.shape[1]))
            gradient.addmm_(error, x)
            offsets += error.sum(dim=1)
        gradient /= len(self.rows)
        offsets /= len(self.rows)
        if raw:
            gradient = gradient @ self.map - offsets[:, None] * self.shift
        return float(total) / len(self.rows), gradient, offsets
