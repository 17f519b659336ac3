"""Least squares to one-hot labels on many label sets, in float64: ridge, and LoRanPAC on random features."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cl_semisup.scoring.moments import Moments
from cl_semisup.scoring.products import add_square, square
from cl_semisup.scoring.rows import Rows

CHUNK = 256  # rows of random features at once: 4 MB
RANK_TOLERANCE = 1e-13  # squared singular values below this share of the largest are rounding errors


def ridge_weights(moments: Moments, strength: float) -> tuple[Tensor, Tensor]:
    """(C, R) weights along the directions and (C,) offsets of  (X^T X + s M I)^-1 X^T (Y - mean Y), standardised X."""
    return moments.class_sums / (moments.variances + strength), moments.frequencies


class RandomFeatures:
    """relu(u R) of unit rows u, R (F, E) standard normal from `seed`."""

    def __init__(self, width: int, count: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.projection = torch.randn(width, count, generator=generator, dtype=torch.float64)

    def of(self, unit_rows: Tensor) -> Tensor:
        """(n, E) float64 of float32 rows (n, F)."""
        return (unit_rows.double() @ self.projection).relu_()


def truncated(features: RandomFeatures, rows: Rows, labels: np.ndarray, classes: int, truncation: float) -> Tensor:
    """(E, C) weights of least squares in the strongest singular directions of the random features H of the rows.

        H = U S V^T;  W = V_k S_k^-2 V_k^T H^T Y,   k = (1 - truncation) min(M, E)

    From the eigenvectors of the smaller of H^T H and H H^T, so memory is that of a chunk and of this matrix.
    """
    count, width = len(rows), features.projection.shape[1]
    y = torch.nn.functional.one_hot(torch.from_numpy(labels), classes).double()  # (M, C)
    keep = max(1, round((1 - truncation) * min(count, width)))
    if count <= width:
        h = torch.cat([features.of(chunk) for _, chunk in rows.unit_chunks(CHUNK)])
        values, vectors = _strongest(square(h), keep)
        return h.T @ (vectors @ ((vectors.T @ y) / values[:, None]))
    gram = torch.zeros(width, width, dtype=torch.float64)
    moment = torch.zeros(width, classes, dtype=torch.float64)
    for part, chunk in rows.unit_chunks(CHUNK):
        h = features.of(chunk)
        add_square(gram, h)
        moment.addmm_(h.T, y[part])
    values, vectors = _strongest(gram, keep)
    return vectors @ ((vectors.T @ moment) / values[:, None])


def _strongest(gram: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues (k,) and their vectors (n, k), at most `keep`, without rounding errors.

    Of a symmetric matrix, from its lower triangle; it is overwritten.
    """
    from scipy.linalg import eigh  # the method `evr` needs half the memory of torch's

    # the transpose of a symmetric matrix lies in memory as LAPACK wants it, so that no copy is made
    found = eigh(gram.numpy().T, lower=False, driver="evr", overwrite_a=True, check_finite=False)
    values, vectors = torch.from_numpy(found[0]), torch.from_numpy(found[1])
    keep = min(keep, max(1, int((values > RANK_TOLERANCE * values[-1]).sum())))
    return values[-keep:].clamp_(min=1e-300), vectors[:, -keep:]


def predict(features: RandomFeatures, test: Rows, weights: Sequence[Tensor]) -> list[Tensor]:
    """(T,) classes by each of several (E, C) weights, in float32; the random features of a row are made once."""
    projection, stacked = features.projection.float(), torch.stack(list(weights), dim=1).float()  # (E, W, C)
    found = []
    for _, unit in test.unit_chunks(CHUNK):
        h = (unit @ projection).relu_()
        found.append((h @ stacked.flatten(1)).view(len(h), *stacked.shape[1:]).argmax(dim=2))
    return list(torch.cat(found).unbind(dim=1))
