import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cl_semisup.evaluation import Features, ProbeResult, _linear, class_accuracy

LONG_TAIL = 2  # smallest ratio of the largest to the smallest class for which there are a head and a tail


@dataclass(frozen=True)
class PerClass:
    """The tuned linear probe in detail: top-5, every class on its own, head and tail, seen and unseen classes.

    `linear_top5`: the label is among the five largest logits (with five classes or fewer always 1). `linear_balanced`:
    mean of the classes' accuracies. `linear_top1_head` and `linear_top1_tail`: the same over the third of the classes
    with the most and with the fewest training images of the run, if the largest class has at least twice as many as the
    smallest. `linear_top1_seen` and `linear_top1_unseen`: the same over classes with and without a visible label, if
    there are both. The accuracy of every class is in the curves.

    Source: head and tail as in arXiv 1904.05160, by thirds of the classes
    Difference: thirds of the classes instead of its thresholds of 100 and 20 images, which suit one data set
    """

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = (
        "linear_top5",
        "linear_balanced",
        "linear_top1_head",
        "linear_top1_tail",
        "linear_top1_seen",
        "linear_top1_unseen",
    )

    def measure(self, features: Features) -> ProbeResult:
        tuned = _linear.tuned(features)
        if tuned is None:
            return ProbeResult()
        truth, classes = features.test_labels, features.classes
        best = tuned.probe.logits(features.test).topk(min(5, classes), dim=1).indices  # (T, 5)
        of_class = class_accuracy(best[:, 0], truth, classes)
        scores = {
            "linear_top5": float((best == truth[:, None]).any(dim=1).double().mean()),
            "linear_balanced": float(of_class.nanmean()),
        }
        groups = _head_and_tail(features.train_labels, classes) | _seen_and_unseen(features.visible_labels, classes)
        grouped = {f"linear_top1_{name}": float(of_class[group].nanmean()) for name, group in groups.items()}
        scores |= {name: value for name, value in grouped.items() if not math.isnan(value)}  # NaN: no test images
        rounded = [None if math.isnan(v) else round(v, 4) for v in of_class.tolist()]
        return ProbeResult(scores, curves={"linear_per_class": rounded})


def _head_and_tail(labels: Tensor, classes: int) -> dict[str, Tensor]:
    """(C,) masks of the third of the classes with most and with fewest images; {} for balanced classes."""
    counts = torch.bincount(labels[labels >= 0], minlength=classes)
    if classes < 3 or int(counts.max()) < LONG_TAIL * int(counts.min()):
        return {}
    order, third = counts.argsort(descending=True, stable=True), max(1, round(classes / 3))
    return {"head": _mask(order[:third], classes), "tail": _mask(order[-third:], classes)}


def _seen_and_unseen(visible_labels: Tensor, classes: int) -> dict[str, Tensor]:
    seen = _mask(visible_labels[visible_labels >= 0].unique(), classes)
    return {"seen": seen, "unseen": ~seen} if bool(seen.any()) and not bool(seen.all()) else {}


def _mask(members: Tensor, classes: int) -> Tensor:
    mask = torch.zeros(classes, dtype=torch.bool, device=members.device)
    mask[members] = True
    return mask
