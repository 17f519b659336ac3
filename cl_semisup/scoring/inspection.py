"""What is wrong with stored features although a score comes out: told in sentences, never passed over."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cl_semisup.evaluation import evenly
from cl_semisup.scoring.feature_file import StoredFeatures, name_rows
from cl_semisup.scoring.rows import Rows

SAMPLE = 2000  # rows of each part that are compared with each other
NEIGHBOURS = 10
NEAR_CHANCE = 3.0  # standard errors above chance up to which a purity counts as chance
CLEAR = 10.0  # standard errors above chance from which a purity counts as high
FEW_ROWS = 10  # in which features grow from row to row by chance, once in 10! columns
NORM_RATIO = 100.0  # largest over smallest norm of the middle 98 % of rows
PART_RATIO = 3.0  # median norm of one part over that of the other


def inspect(features: StoredFeatures) -> list[str]:
    """A sentence for each thing that makes the scores doubtful; [] if there is none."""
    found = [
        _duplicates(features),
        _labels(features),
        _constant(features),
        _counts(features),
        *_norms(features),
        *_classes(features),
    ]
    return [sentence for sentence in found if sentence]


def _duplicates(features: StoredFeatures) -> str:
    """Test rows that are equal to the bit to a training row."""
    train, test = (_row_hashes(x.to(features.train.dtype)) for x in (features.train, features.test))
    order = np.argsort(train, kind="stable")
    position = np.searchsorted(train[order], test)
    candidates = order[np.minimum(position, len(order) - 1)]
    equal = train[candidates] == test
    for row in np.flatnonzero(equal):  # equal hashes are almost always equal rows
        equal[row] = bool(torch.equal(features.train[candidates[row]], features.test[row].to(features.train.dtype)))
    rows = np.flatnonzero(equal)
    if not len(rows):
        return ""
    return f"{name_rows(rows)} of the test part are also training rows; a score there is no test of what is new."


def _row_hashes(x: Tensor) -> NDArray[np.uint64]:
    """(N,) of the bits of each row: a sum with random odd factors, modulo 2^64."""
    size = x.element_size()
    bits = x.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[size]).numpy()
    factors = np.random.default_rng(0).integers(0, 2**63, x.shape[1], dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(x), dtype=np.uint64)
    for first in range(0, len(x), 4096):
        part = bits[first : first + 4096].astype(np.int64).view(np.uint64)
        hashes[first : first + 4096] = (part * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _labels(features: StoredFeatures) -> str:
    """Rows and labels that do not belong together: labels at chance between the parts, and not within one of them."""
    train = _sample(features.train, features.train_labels)
    test = _sample(features.test, features.test_labels)
    if min(len(train[1]), len(test[1])) < 5 * NEIGHBOURS:
        return ""
    between, inside_train, inside_test = (_purity(*pair) for pair in ((test, train), (train, train), (test, test)))
    if _above(between, NEAR_CHANCE, train, test):
        return ""
    high = [_above(purity, CLEAR, part, part) for purity, part in ((inside_train, train), (inside_test, test))]
    figures = f"neighbours share the label in {_percent(between)} between the parts, in {_percent(inside_train)} within"
    figures += f" the training part, in {_percent(inside_test)} within the test part"
    if not any(high):
        rule = "the features know nothing of these labels, or the rows of both parts are in another order"
        return f"Labels are at chance ({figures}): {rule}."
    if all(high):
        return f"The parts do not fit each other ({figures}): are classes numbered the same way, and from one network?"
    part, labels = ("training", "train") if high[1] else ("test", "test")
    return f"Rows and labels of the {part} part do not belong together ({figures}): is {labels} in another order?"


def _sample(x: Tensor, labels: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
    """Evenly spaced labelled unit rows, at most SAMPLE, and their labels."""
    known = np.flatnonzero(labels >= 0)
    rows = known[evenly(len(known), SAMPLE).numpy()]
    return torch.cat([unit.clone() for _, unit in Rows(x).subset(rows).unit_chunks()]), labels[rows]


def _purity(queries: tuple[Tensor, NDArray[np.int64]], bank: tuple[Tensor, NDArray[np.int64]]) -> float:
    """Share of the nearest neighbours with the row's own label; a row is not its own neighbour."""
    cosines = queries[0] @ bank[0].T
    if queries[0] is bank[0]:
        cosines.fill_diagonal_(-2)
    nearest = cosines.topk(NEIGHBOURS, dim=1).indices.numpy()
    return float((bank[1][nearest] == queries[1][:, None]).mean())


def _above(
    purity: float, errors: float, a: tuple[Tensor, NDArray[np.int64]], b: tuple[Tensor, NDArray[np.int64]]
) -> bool:
    """Is a purity so many standard errors above that of labels without any relation?"""
    size = int(max(a[1].max(), b[1].max())) + 1
    shares = [np.bincount(labels, minlength=size) / len(labels) for _, labels in (a, b)]
    chance = float(shares[0] @ shares[1])
    return purity > chance + errors * float(np.sqrt(max(chance * (1 - chance), 1e-6) / len(b[1])))


def _constant(features: StoredFeatures) -> str:
    """Columns that are the same in all training rows."""
    x = features.train
    low = torch.stack([part.amin(dim=0) for part in x.split(8192)]).amin(dim=0)
    high = torch.stack([part.amax(dim=0) for part in x.split(8192)]).amax(dim=0)
    constant = int((low == high).sum())
    return f"{constant} of {x.shape[1]} columns are constant in the training part." if constant else ""


def _counts(features: StoredFeatures) -> str:
    """Columns that grow from row to row, as an index does that was stored beside the features."""
    x = features.train[:SAMPLE]
    columns = (x[1:] > x[:-1]).all(dim=0).nonzero().squeeze(1).tolist() if len(x) > FEW_ROWS else []
    named = ", ".join(map(str, columns[:5]))
    what = f"{len(columns)} of {x.shape[1]} columns grow from row to row (column {named})"
    return f"{what}: is that an index, and no feature?" if columns else ""


def _norms(features: StoredFeatures) -> list[str]:
    """Norms that differ by orders of magnitude within a part or between the parts, and rows of zeros."""
    norms = {
        part: torch.cat([rows.double().norm(dim=1) for _, rows in Rows(x).chunks()]).numpy()
        for part, x in (("training", features.train), ("test", features.test))
    }
    found = []
    for part, values in norms.items():
        if (zeros := np.flatnonzero(values == 0)).size:
            found.append(f"{name_rows(zeros)} of the {part} part are all zeros, which no cosine can compare.")
        low, high = np.quantile(values[values > 0], (0.01, 0.99)) if (values > 0).any() else (1.0, 1.0)
        if high > NORM_RATIO * low:
            found.append(f"Norms of the {part} part differ by orders of magnitude, from {low:.3g} to {high:.3g}.")
    a, b = (float(np.median(values)) for values in norms.values())
    if max(a, b) > PART_RATIO * min(a, b):
        found.append(f"Norms differ between the parts: their medians are {a:.3g} and {b:.3g}. One network, one scale?")
    return found


def _classes(features: StoredFeatures) -> list[str]:
    """Classes that one of the parts lacks."""
    train, test = (set(np.unique(labels).tolist()) - {-1} for labels in (features.train_labels, features.test_labels))
    found = []
    for only, other, effect in (
        (train - test, "test", "they count in no score"),
        (test - train, "training", "never right"),
    ):
        if only:
            named = ", ".join(features.class_names[label] for label in sorted(only)[:5])
            more = ", ..." if len(only) > 5 else ""
            found.append(f"{len(only)} of {features.classes} classes have no {other} rows ({named}{more}): {effect}.")
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
