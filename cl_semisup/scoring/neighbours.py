"""kNN and nearest class means on many label sets at once: each similarity of a test and a training row is made once.

A label set is a part of the training rows, so its similarities are columns of those of all rows. The results are those
of the probes `knn` and `nearest_mean` on each label set alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cl_semisup.scoring.rows import Rows

BUFFER = 16_000_000  # similarities at once (64 MB)
BANK_CHUNK = 4096


def knn(
    train: Rows, labels: np.ndarray, test: Rows, sets: Sequence[np.ndarray], classes: int, k: int, temperature: float
) -> list[Tensor]:
    """(T,) predictions of every label set by  argmax_c  sum over its k most similar rows of class c of exp(s / t).

    Args:
        train, labels: all training rows, and (M,) classes
        test: (T, F)
        sets: positions in train of the rows of each label set
        k: neighbours, capped by the size of the set
        temperature: t
    """
    used = np.unique(np.concatenate(sets))  # rows that no set has are left out
    bank, y = train.subset(used), torch.from_numpy(labels[used])
    columns = [torch.from_numpy(np.searchsorted(used, rows)) for rows in sets]
    queries = max(1, min(len(test), BUFFER // len(bank)))
    buffer = torch.empty(queries, len(bank))
    lengths = torch.cat([rows.norm(dim=1) for _, rows in bank.chunks(BANK_CHUNK)])
    inverse_lengths = lengths.clamp_(min=1e-12).reciprocal_()
    predictions: list[list[Tensor]] = [[] for _ in sets]
    for _, unit in test.unit_chunks(queries):
        cosines = buffer[: len(unit)]
        for part, rows in bank.chunks(BANK_CHUNK):  # read anew for each part of the queries: a copy would take twice
            torch.mm(unit, rows.T, out=cosines[:, part])  # the memory of float16
        cosines *= inverse_lengths
        for found, column in zip(predictions, columns, strict=True):
            own, own_labels = (cosines, y) if len(column) == len(bank) else (cosines[:, column], y[column])
            found.append(_vote(own, own_labels, classes, k, temperature))
    return [torch.cat(found) for found in predictions]


def _vote(cosines: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """(q,) of equal votes the lowest class wins."""
    similar, nearest = cosines.topk(min(k, len(labels)), dim=1)
    weights = ((similar - similar[:, :1]) / temperature).exp_()  # scaled by the nearest: cannot overflow
    votes = torch.zeros(len(cosines), classes)
    return votes.scatter_add_(1, labels[nearest], weights).argmax(dim=1)


def class_means(rows: Rows, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Classes (C',) that have rows, and the means (C', F) of their unit rows."""
    present, members = torch.from_numpy(labels).unique(return_inverse=True)
    sums = torch.zeros(len(present), rows.width)
    for part, unit in rows.unit_chunks():
        sums.index_add_(0, members[part], unit)
    return present, sums / torch.bincount(members)[:, None]


def nearest_mean(test: Rows, present: Tensor, means: Tensor) -> Tensor:
    """(T,) the class of the nearest mean of unit rows; a class without rows is never predicted."""
    distances = [means.square().sum(dim=1) - 2 * unit @ means.T for _, unit in test.unit_chunks()]
    return present[torch.cat(distances).argmin(dim=1)]
