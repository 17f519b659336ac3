"""Least squares to one-hot labels on many label sets, in float64: ridge, and LoRanPAC on random features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_semisup.scoring.moments import Moments
from cl_semisup.scoring.products import add_square
from cl_semisup.scoring.rows import Rows

CHUNK = 256  # rows of random features at once: 4 MB
RANK_TOLERANCE = 1e-13  # squared singular values below this share of the largest are rounding errors


def ridge_weights(moments: Moments, strength: float) -> tuple[Tensor, Tensor]:
    """(C, R) weights along the directions and (C,) offsets of  (X^T X + s M I)^-1 X^T (Y - mean Y), standardised X."""
    return moments.class_sums / (moments.variances + strength), moments.frequencies


@dataclass(frozen=True)
class RandomFeatures:
    """relu(u R) of unit rows u, R (F, E) standard normal from `seed`; R is large, and made anew where it is needed."""

    width: int
    count: int
    seed: int

    def projection(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(self.width, self.count, generator=generator, dtype=torch.float64)

    def of(self, rows: Rows) -> Iterator[tuple[slice, Tensor]]:
        """(positions, (n, E) float64) of rows with F features, chunk by chunk."""
        projection = self.projection()
        for part, unit in rows.unit_chunks(CHUNK):
            yield part, (unit.double() @ projection).relu_()


def truncated(features: RandomFeatures, rows: Rows, labels: np.ndarray, classes: int, truncation: float) -> Tensor:
    """(E, C) weights of least squares in the strongest singular directions of the random features H of the rows.

        H = U S V^T;  W = V_k S_k^-2 V_k^T H^T Y,   k = (1 - truncation) min(M, E)

    From the eigenvectors of the smaller of H^T H and H H^T, so memory is that of a chunk and of two such matrices.
    """
    count, size = len(rows), min(len(rows), features.count)
    y, keep = torch.from_numpy(labels), max(1, round((1 - truncation) * size))
    space = torch.zeros(size + 1, size, dtype=torch.float64)
    if size == count:
        h = torch.cat([chunk for _, chunk in features.of(rows)])
        add_square(space[1:], h.T)
        return h.T @ _solve_strongest(space, torch.nn.functional.one_hot(y, classes).double(), keep)
    moment = torch.zeros(classes, size, dtype=torch.float64)
    for part, h in features.of(rows):
        add_square(space[1:], h)
        moment.index_add_(0, y[part], h)
    del h  # before more memory is needed
    return _solve_strongest(space, moment.T, keep)


def _solve_strongest(space: Tensor, right: Tensor, keep: int) -> Tensor:
    """V_k L_k^-1 V_k^T B (n, C) of the largest eigenvalues of G, at most `keep`, without rounding errors.

    By  G = Q T Q^T  with a tridiagonal T, whose eigenvectors suffice: those of G would cost as much as all the rest.

    Args:
        space: (n + 1, n), a row of zeros, then G, symmetric, of which the upper triangle is read; it is overwritten
        right: B (n, C)
    """
    from scipy.linalg import eigh_tridiagonal, lapack

    # the transpose of G lies in memory as LAPACK wants it, so that no copy is made
    length = int(lapack.dsytrd_lwork(len(right), lower=1)[0])
    _, *tridiagonal, factors, _ = lapack.dsytrd(space[1:].numpy().T, lower=1, lwork=length, overwrite_a=1)
    # Q is a product of reflections, as in a QR decomposition if there is one more before them, which does nothing
    reflections = space[:-1].T, torch.from_numpy(np.append(0.0, factors))
    turned = torch.ormqr(*reflections, right, transpose=True)
    values, vectors = map(torch.from_numpy, eigh_tridiagonal(*tridiagonal, check_finite=False, lapack_driver="stemr"))
    strongest = vectors[:, -min(keep, max(1, int((values > RANK_TOLERANCE * values[-1]).sum()))) :]
    turned = strongest @ ((strongest.T @ turned) / values[-strongest.shape[1] :, None].clamp(min=1e-300))
    del vectors, strongest
    return torch.ormqr(*reflections, turned)


def predict(features: RandomFeatures, test: Rows, weights: Sequence[Tensor]) -> Tensor:
    """(W, T) classes by each of W (E, C) weights in float32; the random features of a row are made once."""
    projection, stacked = features.projection().float(), torch.stack(list(weights), dim=1)  # (E, W, C)
    found = []
    for _, unit in test.unit_chunks(CHUNK):
        h = (unit @ projection).relu_()
        found.append((h @ stacked.flatten(1)).view(len(h), *stacked.shape[1:]).argmax(dim=2))
    return torch.cat(found).T
