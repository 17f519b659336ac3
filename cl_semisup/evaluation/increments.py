from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Features, Increment, ProbeResult, _least_squares, accuracy
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class Increments:
    """Class-incremental learning: how well a network knows classes that it saw in groups, one after the other.

    After increment k a classifier is fitted on features of the labelled images of increments 1 ... k, each as the
    network gave them when it had just seen that increment, since no image is kept. With a_kj the share of the test
    images of group j that it classifies rightly among all classes seen so far:

        increment_average_top1  mean over k of the accuracy on all test images of groups 1 ... k
        increment_last_top1     that accuracy after the last increment
        increment_forgetting    mean over j < K of max_{k < K} a_kj - a_Kj  (a diagnostic: less is better)

    Heads: nearest_mean, on unit rows; ridge to one-hot labels, its strength by a fifth of the rows; loranpac, random
    ReLU features and least squares without the weakest quarter of the directions. They need sums of the features
    alone, so they can be updated increment by increment. A run on all classes at once has one increment.

    Source: average accuracy and forgetting as in arXiv 1801.10112; heads of arXiv 2307.02251 and 2410.00645
    Difference: labels are those that the run may see; the features of earlier increments stand for the sums

    Args:
        head: the classifier
        width: random features of loranpac
    """

    head: Literal["nearest_mean", "ridge", "loranpac"] = "nearest_mean"
    width: Annotated[int, Interval(ge=1, le=20_000)] = 1000

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("increment_average_top1", "increment_last_top1")

    def measure(self, features: Features) -> ProbeResult:
        every = torch.arange(len(features.train))
        at_once = Increment(tuple(range(features.classes)), every, features.train, features.test)
        seen = features.increments or (at_once,)
        accuracies, groups = [], list[list[float]]()
        for k in range(1, len(seen) + 1):
            known = torch.cat(
                [features.visible_labels[one.rows.to(features.visible_labels.device)] for one in seen[:k]]
            )
            train = torch.cat([one.train for one in seen[:k]]).to(features.test.device)
            if not bool((known >= 0).any()):
                return ProbeResult()
            test, truth = seen[k - 1].test.to(features.test.device), features.test_labels
            guess = self._classifier(train[known >= 0], known[known >= 0], features)(test)
            members = [
                torch.isin(truth, torch.tensor(one.classes, dtype=truth.dtype, device=truth.device)) for one in seen[:k]
            ]
            groups.append([accuracy(guess[rows], truth[rows]) for rows in members])
            among = torch.stack(members).any(dim=0)
            accuracies.append(accuracy(guess[among], truth[among]))
        last = groups[-1]
        lost = [max(row[j] for row in groups[j:-1]) - last[j] for j in range(len(last) - 1)]
        scores = {"increment_average_top1": sum(accuracies) / len(accuracies), "increment_last_top1": accuracies[-1]}
        curves = {"increment_accuracy": groups}
        return ProbeResult(scores, {"increment_forgetting": sum(lost) / len(lost)} if lost else {}, curves)

    def _classifier(self, train: Tensor, labels: Tensor, features: Features) -> Callable[[Tensor], Tensor]:
        """Features (T, F) -> classes (T,), among those of the labels."""
        present, members = labels.unique(return_inverse=True)
        count = len(present)
        if self.head == "nearest_mean":
            sums = train.new_zeros(count, train.shape[1]).index_add_(0, members, F.normalize(train, dim=1))
            means = sums / torch.bincount(members)[:, None]
            return lambda test: present[torch.cdist(F.normalize(test, dim=1), means).argmin(dim=1)]
        generator = torch.Generator().manual_seed(seed("loranpac", *features.seed_key))
        projection = torch.randn(train.shape[1], self.width, generator=generator, dtype=torch.float64)

        def rows(z: Tensor) -> Tensor:
            unit = F.normalize(_least_squares.exact(z), dim=1)
            return unit if self.head == "ridge" else torch.relu(unit @ projection.to(unit.device))

        if self.head == "ridge":
            solved, _ = _least_squares.tuned_ridge(rows(train), members, count, seed("validation", *features.seed_key))
        else:
            solved = _least_squares.truncated(rows(train), members, count, 0.75)
        return lambda test: present[solved(rows(test)).argmax(dim=1).to(present.device)]
