from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval

from cl_semisup import plugins
from cl_semisup.data.images import Images
from cl_semisup.data.multi_label import MultiLabelImages
from cl_semisup.errors import DataError
from cl_semisup.evaluation import Features, Network, ProbeResult, _several_labels, accuracy, class_accuracy, evenly
from cl_semisup.measures.logistic import tune
from cl_semisup.plugins import PluginField
from cl_semisup.seeds import seed

VALIDATION = 0.2  # share of the training images that chooses the penalty
TWELVE = (
    "food101", "cifar10", "cifar100", "birdsnap", "sun397", "stanford_cars", "fgvc_aircraft", "voc2007", "dtd",
    "oxford_pets", "caltech101", "flowers102",
)  # fmt: skip


@dataclass(frozen=True)
class SimClr12:
    """Transfer to the twelve data sets of SimCLR's table: a linear probe on each, with the metric that papers give.

    The metric is mean accuracy over classes for fgvc_aircraft, oxford_pets, caltech101 and flowers102, mean average
    precision at eleven recalls for voc2007, and accuracy for the others; each is a diagnostic, such as
    `simclr12_mean_per_class_dtd`. A data set that is not in data_dir has none, and the record's curves say why
    (`simclr12_missing`). `simclr12` is the mean over all data sets that are named, only if all are there.

    `transfer: simclr12` among the probes names this list too.

    The probe is logistic regression on standardised features, with its penalty chosen on a fifth of the training
    images; for voc2007 one for each class. Images are converted to the encoder's format as in `transfer`.

    Source: arXiv 2002.05709, section B.8 and table 8
    Difference: the images have the encoder's side, not 224 pixels; features are standardised; at most `images`

    Args:
        datasets: data sets to probe on, all of them in one record
        images: at most so many training images of each, evenly spaced
    """

    datasets: Annotated[Any, PluginField("datasets", list_is_set=True)] = TWELVE
    images: Annotated[int, Interval(ge=1)] = 100_000

    default: ClassVar[bool] = False
    datasets_optional: ClassVar[bool] = True
    named_by: ClassVar[str] = "transfer"  # `transfer: simclr12` is this probe
    scores: ClassVar[tuple[str, ...]] = ("simclr12",)

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("simclr12", "compute features of other data sets")
        result, missing = ProbeResult(), {}
        for named in self.datasets:
            (name,) = named
            try:
                data = network.dataset(named)
            except DataError as error:  # a damaged one is found before anything runs
                missing[name] = str(error)
                continue
            metric = getattr(plugins.load("datasets", name), "metric", "top1")
            split = seed("validation", name, *features.seed_key)
            result.diagnostics[f"simclr12_{metric}_{name}"] = self._probe(network, data, metric, split)
        if missing:
            result.curves["simclr12_missing"] = missing
        elif result.diagnostics:
            result.scores["simclr12"] = sum(result.diagnostics.values()) / len(result.diagnostics)
        return result

    def _probe(self, network: Network, data: Images, metric: str, split: int) -> float:
        """The metric on one data set; `split` is the seed of the part that chooses the penalty."""
        if isinstance(data, MultiLabelImages):
            chosen = evenly(len(data.train_images), self.images).numpy()
            x, test = (network.features_of(images) for images in (data.train_images[chosen], data.test_images))
            targets = torch.from_numpy(data.train_targets[chosen]).to(x.device)
            truth = torch.from_numpy(data.test_targets).to(x.device)
            return _several_labels.mean_average_precision(x, targets, test, truth, share=VALIDATION, seed=split)
        known = np.flatnonzero(data.train_labels >= 0)
        known = known[evenly(len(known), self.images).numpy()]
        x, test = (network.features_of(images) for images in (data.train_images[known], data.test_images))
        y, truth = (torch.from_numpy(labels).to(x.device) for labels in (data.train_labels[known], data.test_labels))
        probe = tune(x, y, data.classes, share=VALIDATION, seed=split).probe
        predictions = probe.logits(test).argmax(dim=1)
        if metric == "mean_per_class":
            return float(class_accuracy(predictions, truth, data.classes).nanmean())
        return accuracy(predictions, truth)
