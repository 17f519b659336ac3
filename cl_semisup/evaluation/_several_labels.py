"""Images that show several classes: one logistic regression a class, and average precision."""

import torch
from torch import Tensor

from cl_semisup.measures.logistic import STRENGTHS, SoftmaxRegression, StandardisedFeatures

RECALLS = 11  # at 0, 0.1 .. 1, as in the VOC challenge of 2007
SEARCH_TOLERANCE = 1e-5


def average_precision(scores: Tensor, true: Tensor) -> float:
    """Of a ranking by (N,) scores with (N,) bool: the mean over eleven recalls of the best precision at that recall."""
    order = scores.argsort(descending=True, stable=True)
    hits = true[order].double().cumsum(dim=0)
    recall, precision = hits / hits[-1], hits / torch.arange(1, len(hits) + 1, device=hits.device)
    best = []
    for step in range(RECALLS):
        reached = precision[recall >= step / (RECALLS - 1) - 1e-12]
        best.append(float(reached.max()) if len(reached) else 0.0)
    return sum(best) / RECALLS


def mean_average_precision(
    x: Tensor, targets: Tensor, test: Tensor, truth: Tensor, *, share: float, seed: int
) -> float:
    """Mean over classes of the average precision on test rows (T, F) of regressions fitted on rows (M, F).

    One penalty for all classes is chosen on a random part of the rows. Targets (M, C) and truth (T, C) are 1, 0, or -1
    where a row does not count for a class. A class that no row shows, or all, is left out.
    """
    count = len(x)
    random = torch.Generator().manual_seed(seed % 2**63)
    held = torch.zeros(count, dtype=torch.bool)
    held[torch.randperm(count, generator=random)[: max(1, round(share * count))]] = True
    held = held.to(x.device)
    searched = [
        (_over_classes(x[~held], targets[~held], x[held], targets[held], strength, SEARCH_TOLERANCE), -place)
        for place, strength in enumerate(STRENGTHS)  # the strongest of equals
    ]
    best = STRENGTHS[-max(searched)[1]]
    return _over_classes(x, targets, test, truth, best, 1e-6)


def _over_classes(x: Tensor, targets: Tensor, test: Tensor, truth: Tensor, strength: float, tolerance: float) -> float:
    """0 if no class can be measured."""
    precisions = []
    for fitted, true in zip(targets.T, truth.T, strict=True):
        rows, tested = fitted >= 0, true >= 0
        y = fitted[rows].long()
        if len(y.unique()) < 2 or not bool((true == 1).any()):
            continue
        features = StandardisedFeatures.of(x[rows])
        probe = SoftmaxRegression.fit(features, y, 2, strength, tolerance=tolerance)
        logits = probe.logits(test[tested])
        precisions.append(average_precision(logits[:, 1] - logits[:, 0], true[tested] == 1))
    return sum(precisions) / len(precisions) if precisions else 0.0
