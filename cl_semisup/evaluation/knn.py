from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from torch import Tensor

from cl_semisup.evaluation import Embedded, Measured

CHUNK = 1024  # queries at once: bounds memory to CHUNK x bank similarities (200 MB at 50,000 images)


@dataclass(frozen=True)
class KNN:
    """Weighted k-nearest-neighbour accuracy on frozen backbone features, cosine similarity.

        class of q = argmax_c  sum over the k most similar bank images i of class c of exp(s_qi / t)

    `knn_top1`: the bank is every labelled training image of the data set; `knn_top1_labelled`: only those whose label
    the run could see.

    Source: arXiv 1805.01978, section 3.4; k and t as in lightly's benchmarks
    Difference: None

    Args:
        k: neighbours, capped by the size of the bank
        temperature: t, > 0
    """

    k: Annotated[int, Interval(ge=1, le=100_000)] = 200
    temperature: Annotated[float, Gt(0)] = 0.1

    scores: ClassVar[tuple[str, ...]] = ("knn_top1", "knn_top1_labelled")

    def measure(self, embedded: Embedded) -> Measured:
        train, test = F.normalize(embedded.train, dim=1), F.normalize(embedded.test, dim=1)
        scores = {}
        for name, labels in (("knn_top1", embedded.train_labels), ("knn_top1_labelled", embedded.shown)):
            bank = labels >= 0
            found = self.predict(test, train[bank], labels[bank], embedded.classes)
            scores[name] = float((found == embedded.test_labels).double().mean())
        return Measured(scores=scores)

    def predict(self, queries: Tensor, bank: Tensor, labels: Tensor, classes: int) -> Tensor:
        """(Q,) predicted classes for unit rows; of equal votes the lowest class wins."""
        k = min(self.k, len(bank))
        found = []
        for chunk in queries.split(CHUNK):
            similar, nearest = (chunk @ bank.T).topk(k, dim=1)  # (q, k)
            weights = ((similar - similar[:, :1]) / self.temperature).exp()  # scaled by the nearest: cannot overflow
            votes = torch.zeros(len(chunk), classes, device=chunk.device, dtype=weights.dtype)
            found.append(votes.scatter_add_(1, labels[nearest], weights).argmax(dim=1))
        return torch.cat(found)
