"""Softmax regressions on many label sets: the linear probe's problem (`measures/logistic.py`), solved faster.

Rows are turned into the eigenvectors of their own covariance. There the penalty is still |W|^2, the directions without
variance can be left out (fewer rows than features), and one factor a direction evens the curvature. Large sets are read
chunk by chunk in the type that they are stored in, so they are never copied.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cl_semisup.scoring.moments import Moments
from cl_semisup.scoring.rows import Rows

IN_MEMORY = 12_000_000  # numbers of turned rows that are kept (48 MB); larger sets are read anew in each step
CHUNK = 512  # rows at once: the chunk, its logits and their errors stay in the cache of a core
HISTORY = 5  # steps that L-BFGS remembers: as many evaluations as with 10, and half of their overhead
MAX_ITERATIONS = 1000
TINY = 1e-12  # keeps units finite where every row is certain
Solution = tuple[Tensor, Tensor]  # W (C, R) and b (C,)


class SoftmaxProblem:
    """The loss of one label set, in the directions of its moments.

        min over W, b of  mean_i -log softmax(W z_i + b)_{y_i} + s/2 |W|^2,   z_i = V^T (x_i - mean) / scale

    `steps` counts evaluations of the loss; `converged` is of the last fit. `workers` threads divide the rows.
    """

    def __init__(self, rows: Rows, labels: np.ndarray, moments: Moments, workers: int = 1):
        self.rows, self.labels, self.moments = rows, torch.from_numpy(labels), moments
        self.classes, self.rank = moments.class_sums.shape
        self.steps, self.converged, self.workers = 0, True, workers
        self.map = (moments.directions * moments.inverse_scale[:, None]).float()  # (F, R)
        self.shift = (moments.mean * moments.inverse_scale @ moments.directions).float()  # (R,)
        small = len(rows) * self.rank <= IN_MEMORY
        self.turned = self.turn(rows) if small else None  # (M, R)

    def turn(self, rows: Rows) -> Tensor:
        """(M, R) coordinates of raw rows along the directions."""
        turned = torch.empty(len(rows), self.rank)
        center = self.moments.mean.float()
        for part, chunk in rows.chunks():
            torch.mm(chunk.sub_(center), self.map, out=turned[part])
        return turned

    def _chunks(self, piece: slice) -> Iterator[tuple[Tensor, Tensor]]:
        """Turned rows of a piece of the set, or raw ones of a set that is too large to keep turned; their labels."""
        labels = self.labels[piece].split(CHUNK)
        if self.turned is not None:
            return zip(self.turned[piece].split(CHUNK), labels, strict=True)
        chunks = self.rows.part(piece.start, piece.stop - piece.start).chunks(CHUNK)
        return ((chunk, own) for (_, chunk), own in zip(chunks, labels, strict=True))

    def path(self, strengths: Sequence[float], tolerance: float) -> Iterator[tuple[float, Solution]]:
        """Each penalty, the strongest first, with its solution.

        Each starts from the solution before, or from as far beyond it as that is beyond its own predecessor if the loss
        is lower there: where all rows are right, weights grow by equal steps as the penalty falls by equal factors.
        """
        found: list[Solution] = []
        for strength in strengths:
            starts = found[-1:]
            if len(found) > 1:
                (weight, bias), (weight_before, bias_before) = found[-1], found[-2]
                starts.append((2 * weight - weight_before, 2 * bias - bias_before))
            found = [*found[-1:], self.solve(strength, starts, tolerance)]
            yield strength, found[-1]

    def solve(self, strength: float, starts: Sequence[Solution], tolerance: float) -> Solution:
        """L-BFGS from the best of `starts` until a step changes the loss by at most `tolerance` of the loss there.

        The unit of a coordinate is the root of its curvature, about  k v + s  along a direction of variance v and  k
        for an offset, where k is the mean of  p (1 - p)  over rows and classes at the start. Without one it is 0.
        """
        from scipy.optimize import minimize  # imported here: it takes 0.3 s

        at_starts = [
            (evaluated.loss + self._penalty(w, strength), w, b, evaluated)
            for w, b in starts or [(torch.zeros(self.classes, self.rank), torch.zeros(self.classes))]
            for evaluated in [self._loss(w, b, curvature=True)]
        ]
        loss, weight, bias, at_start = min(at_starts, key=lambda one: one[0])
        scale, curvature = 1 / max(loss, TINY), max(at_start.curvature, TINY)
        known = [at_start]  # the first step asks for the start again
        unit = torch.cat([self.moments.variances * curvature + strength, torch.tensor([curvature])]).rsqrt().float()

        def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w, b = self._split(torch.from_numpy(flat).float(), unit)
            found = known.pop() if known else self._loss(w, b)
            gradient = torch.cat([found.gradient.add_(w, alpha=strength), found.offsets[:, None]], dim=1)
            flat_gradient = gradient.mul_(unit * scale).double().flatten().numpy()
            return (found.loss + self._penalty(w, strength)) * scale, flat_gradient

        first = torch.cat([weight, bias[:, None]], dim=1).div(unit).double().flatten().numpy()
        limits = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": 0.0, "ftol": tolerance}
        limits |= {"maxcor": HISTORY}
        result = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=limits)
        self.converged = bool(result.success)
        return self._split(torch.from_numpy(result.x).float(), unit)

    def _split(self, flat: Tensor, unit: Tensor) -> Solution:
        values = flat.view(self.classes, self.rank + 1) * unit
        return values[:, :-1].contiguous(), values[:, -1].contiguous()

    @staticmethod
    def _penalty(weight: Tensor, strength: float) -> float:
        return strength / 2 * float(weight.square().sum(dtype=torch.float64))

    def _loss(self, w: Tensor, b: Tensor, curvature: bool = False) -> "_Evaluation":
        """Mean cross-entropy, and its gradient in W (C, R) and b (C,); the curvature where it is asked for."""
        self.steps += 1
        raw, shift = self.turned is None, self.shift
        if raw:
            b = b - w @ shift
            w = w @ self.map.T  # (C, F), acting on raw rows
        count, share = len(self.rows), -(-len(self.rows) // self.workers)
        pieces = [slice(first, min(first + share, count)) for first in range(0, count, share)]
        if len(pieces) == 1:  # a thread for each evaluation would take time of small sets
            parts = [self._sums(w, b, pieces[0], curvature)]
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                parts = list(pool.map(lambda piece: self._sums(w, b, piece, curvature), pieces))
        loss, gradient, offsets, curved = (sum(values[1:], values[0]) for values in zip(*parts, strict=True))
        gradient /= count
        offsets /= count
        if raw:
            gradient = gradient @ self.map - offsets[:, None] * shift
        return _Evaluation(loss / count, gradient, offsets, curved / (count * self.classes))

    def _sums(self, w: Tensor, b: Tensor, piece: slice, curvature: bool) -> "_Evaluation":
        """As `_loss`, summed over a piece of the rows, and the gradient for rows as they are read."""
        loss = curved = 0.0
        gradient, offsets = torch.zeros_like(w), torch.zeros_like(b)
        for x, labels in self._chunks(piece):
            # classes are the first axis: softmax over a short last axis would take most of the time
            value, error = _cross_entropy(torch.addmm(b[:, None], w, x.T), labels[None])
            loss += value
            gradient.addmm_(error, x)
            offsets += error.sum(dim=1)
            if curvature:
                curved += float(error.abs().sum()) - float(error.square().sum())
        return _Evaluation(loss, gradient, offsets, curved)


class _Evaluation(NamedTuple):
    """The mean loss, its gradient, and the mean of p (1 - p) over rows and classes, or 0 if it was not asked for."""

    loss: float
    gradient: Tensor
    offsets: Tensor
    curvature: float


def _cross_entropy(logits: Tensor, label: Tensor) -> tuple[float, Tensor]:
    """The summed cross-entropy, and p - y (C, n) in place of the logits.

    Both are sums over the other classes, of  exp(l_c - l_y), and never a difference from 1. So they keep their digits
    in float32 where rows are almost certain, as they are at weak penalties.

    Args:
        logits: (C, n), overwritten
        label: (1, n)
    """
    logits -= logits.gather(0, label)
    highest = logits.amax(dim=0)  # at least 0, the label's own
    others = logits.sub_(highest).exp_().scatter_(0, label, 0.0)
    total = others.sum(dim=0)  # of the other classes, in units of exp(highest)
    loss = highest + torch.log1p(total + torch.expm1(-highest))
    total_with_own = total + torch.exp(-highest)
    others /= total_with_own
    return float(loss.sum(dtype=torch.float64)), others.scatter_(0, label, (-total / total_with_own)[None])
