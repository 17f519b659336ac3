"""What all linear classifiers of one label set share: mean, scale, covariance in its eigenvectors, class means."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cl_semisup.measures.column_scale import column_scale
from cl_semisup.scoring.products import add_square, square
from cl_semisup.scoring.rows import Rows

RANK_TOLERANCE = 1e-10  # directions with a smaller share of the largest variance are rounding errors
TINY = 1e-300
CHUNK = 256  # rows in float64 at once: 1.6 MB at 768 features


@dataclass(frozen=True, eq=False)
class Moments:
    """Of M labelled rows, all in float64.

    Args:
        mean: (F,)
        inverse_scale: (F,) 1 over the standard deviation; 0 for constant columns
        variances: (R,) of the standardised rows along `directions`, those of rounding errors left out
        directions: (F, R) orthonormal, for standardised rows
        frequencies: (C,) share of each class in the rows
        class_sums: (C, R) sum of the standardised rows of each class along `directions`, over M
        count: M
    """

    mean: Tensor
    inverse_scale: Tensor
    variances: Tensor
    directions: Tensor
    frequencies: Tensor
    class_sums: Tensor
    count: int

    @classmethod
    def of(cls, rows: Rows, labels: np.ndarray, classes: int) -> "Moments":
        """Of rows with classes (M,). With fewer rows than features from X X^T, else from X^T X."""
        count, y = len(rows), torch.from_numpy(labels)
        sums = torch.zeros(classes, rows.width, dtype=torch.float64)
        for part, chunk in rows.chunks(CHUNK, torch.float64):
            sums.index_add_(0, y[part], chunk)
        mean = sums.sum(dim=0) / count
        inverse, variances, directions = (_of_few if count < rows.width else _of_many)(rows, mean)
        frequencies = torch.bincount(y, minlength=classes).double() / count
        class_sums = ((sums / count - frequencies[:, None] * mean) * inverse) @ directions
        return cls(mean, inverse, variances, directions, frequencies, class_sums, count)

    def on_raw_rows(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """(C, F) and (C,) in float64, acting on raw rows, of (C, R) and (C,) that act along the directions."""
        raw = weight.double() @ self.directions.T * self.inverse_scale
        return raw, bias.double() - raw @ self.mean

    def along_directions(self, raw: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The reverse of `on_raw_rows`; directions that these rows lack are lost."""
        scale = torch.where(self.inverse_scale > 0, 1 / self.inverse_scale, 0)
        return raw.double() * scale @ self.directions, bias.double() + raw.double() @ self.mean


Spread = tuple[Tensor, Tensor, Tensor]  # inverse_scale, variances, directions


def _of_many(rows: Rows, mean: Tensor) -> Spread:
    product = torch.zeros(rows.width, rows.width, dtype=torch.float64)
    for _, chunk in rows.chunks(CHUNK, torch.float64):
        add_square(product, chunk.sub_(mean))  # before the product: else a large mean would take the digits
    product /= len(rows)
    inverse = 1 / column_scale(mean, product.diagonal().sqrt())
    variances, directions = _strong(product.mul_(inverse).mul_(inverse[:, None]))
    return inverse, variances, directions


def _of_few(rows: Rows, mean: Tensor) -> Spread:
    """The vectors (M, R) of  X X^T / M  give the directions  X^T U / (M v)^(1/2)."""
    x = torch.cat([chunk - mean for _, chunk in rows.chunks(CHUNK, torch.float64)])
    inverse = 1 / column_scale(mean, x.square().mean(dim=0).sqrt())
    x *= inverse
    variances, vectors = _strong(square(x) / len(x))
    return inverse, variances, x.T @ vectors / (variances * len(x)).clamp(min=TINY).sqrt()


def _strong(product: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors without rounding errors; where all rows are equal, one in which they do not differ.

    Of a symmetric matrix, from its upper triangle.
    """
    values, vectors = torch.linalg.eigh(product, UPLO="U")
    keep = values > RANK_TOLERANCE * values[-1]
    keep[-1] = True
    return values[keep].clamp_(min=0), vectors[:, keep]
