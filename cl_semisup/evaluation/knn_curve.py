from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from cl_semisup.evaluation import Features, ProbeResult, accuracy

NEIGHBOURS = (1, 5, 10, 20, 50, 100, 200)
CHUNK = 1024  # queries at once


@dataclass(frozen=True)
class KNNCurve:
    """Weighted kNN accuracy over several k at once: does an order of losses hang on the choice of k?

    As the probe `knn`, with k = 1, 5, 10, 20, 50, 100 and 200, capped by the size of the bank, which is every labelled
    training image of the run. Which papers: k = 200 with t = 0.07 or 0.1 in arXiv 1805.01978, 2011.10566 (SimSiam) and
    lightly's tables; k = 20 with t = 0.07 in arXiv 2104.14294 (DINO) and solo-learn; k = 10 in arXiv 2304.07193
    (DINOv2); k = 1 and 5 in tables of retrieval and few labels.

    Source: arXiv 1805.01978, section 3.4
    Difference: None

    Args:
        temperature: t, > 0
    """

    temperature: Annotated[float, Gt(0)] = 0.07

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = tuple(f"knn_k{k}_top1" for k in NEIGHBOURS)

    def measure(self, features: Features) -> ProbeResult:
        known = features.train_labels >= 0
        if not bool(known.any()):
            return ProbeResult()
        bank, labels = F.normalize(features.train[known], dim=1), features.train_labels[known]
        parts = [self._predict(part, bank, labels, features.classes) for part in features.test.split(CHUNK)]
        predictions = torch.cat(parts, dim=1)  # (K, T)
        named = zip(NEIGHBOURS, predictions, strict=True)
        return ProbeResult({f"knn_k{k}_top1": accuracy(row, features.test_labels) for k, row in named})

    def _predict(self, queries: Tensor, bank: Tensor, labels: Tensor, classes: int) -> Tensor:
        """(K, q) classes, a row for every k. The votes of the k nearest are those of fewer and some more."""
        similar, nearest = (F.normalize(queries, dim=1) @ bank.T).topk(min(max(NEIGHBOURS), len(bank)), dim=1)
        weights = ((similar - similar[:, :1]) / self.temperature).exp()  # scaled by the nearest: cannot overflow
        votes, counted, rows = weights.new_zeros(len(queries), classes), 0, []
        for k in NEIGHBOURS:
            end = min(k, len(bank))
            votes.scatter_add_(1, labels[nearest[:, counted:end]], weights[:, counted:end])
            counted = end
            rows.append(votes.argmax(dim=1))
        return torch.stack(rows)
