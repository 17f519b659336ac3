from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from cl_semisup.data.images import Images
from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features, Network, ProbeResult, _linear, accuracy
from cl_semisup.plugins import PluginField


@dataclass(frozen=True)
class ShiftedTest:
    """Accuracy of the linear probe on further test images of the same classes, such as CIFAR-10-C and CIFAR-10.1.

    The probe is that of `linear_top1`: fitted on the run's own training images, tuned without these. Each part of a
    data set (a kind of corruption, for instance) is a diagnostic, `shifted_top1_<part>`, a mean over its severities if
    it has some, and each severity too, such as `shifted_top1_fog_3`. `linear_top1_shifted` is the mean over all parts
    of all data sets named.

    Source: arXiv 1903.12261 (CIFAR-10-C), arXiv 1806.00451 (CIFAR-10.1)
    Difference: None; mean corruption error needs AlexNet's errors, and is not given

    Args:
        datasets: `cifar_c`, with its settings, or another data set of the same classes, whose test part is used
    """

    datasets: Annotated[Any, PluginField("datasets", list_is_set=True)]

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_top1_shifted",)

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("shifted_test", "compute features of further test images")
        tuned = _linear.tuned(features)
        if tuned is None:
            return ProbeResult()
        diagnostics: dict[str, float] = {}
        means: list[float] = []
        for named in self.datasets:
            (name,) = named
            data = network.dataset(named)
            _require_fit(name, data, network, features.classes)
            for part, severities in _parts(name, data):
                top1 = [
                    _top1(tuned.probe.logits(network.features_of(data.test_images[rows])), data, rows)
                    for rows in severities
                ]
                means.append(sum(top1) / len(top1))
                diagnostics[f"shifted_top1_{part}"] = means[-1]
                if len(top1) > 1:
                    diagnostics |= {f"shifted_top1_{part}_{n}": value for n, value in enumerate(top1, start=1)}
        return ProbeResult({"linear_top1_shifted": sum(means) / len(means)}, diagnostics)


def _parts(name: str, data: Images) -> Iterator[tuple[str, list[slice]]]:
    """Each part of the test images and the rows of its severities; a data set without parts is one."""
    parts = getattr(data, "parts", None) or ((name, 1, len(data.test_images)),)
    first = 0
    for part, severities, count in parts:
        yield part, [slice(first + n * count, first + (n + 1) * count) for n in range(severities)]
        first += severities * count


def _top1(logits: Tensor, data: Images, rows: slice) -> float:
    truth = torch.from_numpy(data.test_labels[rows]).to(logits.device)
    return accuracy(logits.argmax(dim=1), truth)


def _require_fit(name: str, data: Images, network: Network, classes: int) -> None:
    if data.classes > classes:
        rule = f"must have no more than the run's {classes} classes"
        raise InputError(f"shifted_test: {name} {rule}. Got {data.classes}. Name other test images.")
