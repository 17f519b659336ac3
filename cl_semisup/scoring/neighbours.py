"""kNN and nearest class means on many label sets at once: each similarity of a test and a training row is made once.

A label set is a part of the training rows, so its similarities are columns of those of all rows. The results are those
of the probes `knn` and `nearest_mean` on each label set alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cl_semisup.scoring.rows import Rows
from cl_semisup.scoring.threads import in_threads

BUFFER = 12_000_000  # similarities at once (48 MB)
BANK_CHUNK = 2048
MIN_QUERIES = 100  # of a thread: each reads the whole bank
MIN_MEMBERS = 3  # of a block of columns, from which blocks save time


def knn(
    train: Rows, labels: np.ndarray, test: Rows, sets: Sequence[np.ndarray], classes: int, k: int, temperature: float
) -> Tensor:
    """(S, T) predictions of S label sets by  argmax_c  sum over its k most similar rows of class c of exp(s / t).

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
    lengths = torch.cat([rows.norm(dim=1) for _, rows in bank.chunks(BANK_CHUNK)])
    inverse_lengths = lengths.clamp_(min=1e-12).reciprocal_()
    at_once = max(1, BUFFER // len(bank))
    workers = max(1, min(torch.get_num_threads(), at_once // MIN_QUERIES))
    at_once = max(1, at_once // workers)

    predictions = torch.empty(len(sets), len(test), dtype=torch.int64)  # many small ones would scatter free memory

    def predict(first: int) -> None:
        """Of the test rows from `first` on, as many as are compared at once, for every label set."""
        ((_, unit),) = test.part(first, at_once).unit_chunks(at_once)
        cosines = torch.empty(len(unit), len(bank))
        for part, rows in bank.chunks(BANK_CHUNK):  # read anew for each part of the queries: a copy would take twice
            torch.mm(unit, rows.T, out=cosines[:, part])  # the memory of float16
        cosines *= inverse_lengths
        for column, found in zip(columns, predictions[:, first : first + at_once], strict=True):
            takes_all = len(column) == len(bank)
            own, own_labels = (cosines, y) if takes_all else (cosines.index_select(1, column), y[column])
            found.copy_(_vote(own, own_labels, classes, k, temperature))

    in_threads(predict, range(0, len(test), at_once), workers)
    return predictions


def _vote(cosines: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """(q,) of equal votes the lowest class wins."""
    similar, nearest = _largest(cosines, k)
    # scaled by the nearest: cannot overflow
    weights = similar.sub_(similar.amax(dim=1, keepdim=True)).div_(temperature).exp_()
    return torch.zeros(len(cosines), classes).scatter_add_(1, labels[nearest], weights).argmax(dim=1)


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values (q, k) of each row (q, n), or all of fewer, in any order, and their columns.

    Columns are dealt out to blocks. The k largest values lie in the k blocks with the largest maxima, so that only the
    maxima and the members of these blocks are compared; the members of a block are some root of n / k.
    """
    count = values.shape[1]
    members = int((count / k) ** 0.5)
    if members < MIN_MEMBERS:
        return values.topk(min(k, count), dim=1, sorted=False)
    blocks = count // members
    maxima = values[:, : members * blocks].unflatten(1, (members, blocks)).amax(dim=1)
    strongest = maxima.topk(k, dim=1, sorted=False).indices
    columns = (strongest[:, None] + blocks * torch.arange(members)[:, None]).flatten(1)
    rest = torch.arange(members * blocks, count).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    found = values.gather(1, columns).topk(k, dim=1, sorted=False)
    return found.values, columns.gather(1, found.indices)


def class_means(rows: Rows, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Classes (C',) that have rows, and the means (C', F) of their unit rows."""
    present, members = torch.from_numpy(labels).unique(return_inverse=True)
    sums = torch.zeros(len(present), rows.width)
    for part, unit in rows.unit_chunks():
        sums.index_add_(0, members[part], unit)
    return present, sums / torch.bincount(members)[:, None]


def nearest_mean(unit: Tensor, present: Tensor, means: Tensor) -> Tensor:
    """(n,) the class of the nearest mean of unit rows (n, F); a class without rows is never predicted."""
    return present[(means.square().sum(dim=1) - 2 * unit @ means.T).argmin(dim=1)]
