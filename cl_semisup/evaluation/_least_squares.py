"""Least squares to one-hot labels, in float64: ridge with its strength chosen on held-out rows, and truncated SVD."""

from collections.abc import Callable

import torch
from torch import Tensor

from cl_semisup.measures.column_scale import column_scale
from cl_semisup.measures.logistic import DEFAULT_STRENGTH, STRENGTHS, hold_out

VALIDATION = 0.2  # share of the training images held out to choose a strength
Scores = Callable[[Tensor], Tensor]  # (Q, F) -> (Q, C)


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both by the mean and standard deviation of the training rows; constant columns become 0."""
    mean = train.mean(dim=0)
    scale = column_scale(mean, train.std(dim=0, correction=0))
    return (train - mean) / scale, (test - mean) / scale


def exact(z: Tensor) -> Tensor:
    """In float64; on the CPU for devices without it (MPS)."""
    return z.cpu().double() if z.device.type == "mps" else z.double()


def ridge(x: Tensor, y: Tensor, classes: int, strengths: tuple[float, ...]) -> list[Scores]:
    """The solution for every strength, from one eigendecomposition of the smaller of X^T X and X X^T."""
    target = torch.nn.functional.one_hot(y.to(x.device), classes).to(x.dtype)
    offset = target.mean(dim=0)
    target = target - offset
    wide = x.shape[1] > len(x)
    values, directions = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    projected = directions.T @ (target if wide else x.T @ target)

    def solve(strength: float) -> Scores:
        weight = directions @ (projected / (values.clamp(min=0) + strength * len(x))[:, None])
        weight = x.T @ weight if wide else weight  # (F, C)
        return lambda q: q @ weight + offset

    return [solve(strength) for strength in strengths]


def tuned_ridge(x: Tensor, y: Tensor, classes: int, rng_seed: int) -> tuple[Scores, float]:
    """The solution on all rows, and its strength: the best on a stratified part of them (the largest of equals)."""
    y, best = y.to(x.device), DEFAULT_STRENGTH
    held_out = hold_out(y.cpu().numpy(), VALIDATION, rng_seed)
    if held_out is not None:
        held = torch.from_numpy(held_out).to(x.device)
        solutions = ridge(x[~held], y[~held], classes, STRENGTHS)
        right = [int((solution(x[held]).argmax(dim=1) == y[held]).sum()) for solution in solutions]
        best = STRENGTHS[right.index(max(right))]
    return ridge(x, y, classes, (best,))[0], best


def truncated(x: Tensor, y: Tensor, classes: int, share: float) -> Scores:
    """Least squares in the `share` of all min(M, E) singular directions that are strongest: W = V_k S_k^-1 U_k^T Y."""
    target = torch.nn.functional.one_hot(y.to(x.device), classes).to(x.dtype)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    keep = max(1, round(share * len(values)))
    keep = min(keep, max(1, int((values > 1e-10 * values[0]).sum())))  # smaller ones are rounding errors
    weight = right[:keep].T @ ((left[:, :keep].T @ target) / values[:keep, None].clamp(min=1e-300))
    return lambda q: q @ weight
