from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval

from cl_semisup.data.images import Images
from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features, Network, ProbeResult, _neighbours, accuracy, evenly
from cl_semisup.measures.logistic import tune
from cl_semisup.plugins import PluginField
from cl_semisup.seeds import seed

NEIGHBOURS, TEMPERATURE, VALIDATION = 200, 0.1, 0.2  # the defaults of the probes of the run's own data


@dataclass(frozen=True)
class Transfer:
    """Transfer of the frozen features: linear probe and kNN, trained and tested on other data sets.

    `transfer_linear_top1` and `transfer_knn_top1` are means over the named data sets without the run's own; the
    accuracy on each is a diagnostic, such as `transfer_linear_top1_mnist`. Both probes use the data set's own training
    labels: logistic regression with its penalty chosen on a fifth of them, and the vote of 200 neighbours with t = 0.1.

    Images are converted to the encoder's format: grey ones get three equal channels, coloured ones become their luma
    (ITU-R 601), the side is resized bilinearly with antialiasing, and pixels are normalised as in the run's training.
    If only the run's own data set is named there is no score.

    Source: the linear transfer of arXiv 2002.05709, section B.8
    Difference: without augmentation; features are standardised; at most `images` training images

    Args:
        datasets: data sets to probe on, all of them in one record
        images: at most so many training images of each with a label, evenly spaced
    """

    datasets: Annotated[Any, PluginField("datasets", list_is_set=True)]
    images: Annotated[int, Interval(ge=1)] = 10_000

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("transfer_linear_top1", "transfer_knn_top1")

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("transfer", "compute features of other data sets")
        result = ProbeResult()
        others = [named for named in self.datasets if next(iter(named)) != features.seed_key[0]]
        for named in others:
            (name,) = named
            top1 = self._probe(network, network.dataset(named), seed("validation", name, *features.seed_key))
            result.diagnostics.update({f"transfer_{probe}_top1_{name}": value for probe, value in top1.items()})
            for probe, value in top1.items():
                score = f"transfer_{probe}_top1"
                result.scores[score] = result.scores.get(score, 0.0) + value / len(others)
        return result

    def _probe(self, network: Network, data: Images, rng_seed: int) -> dict[str, float]:
        """The two accuracies on one data set; `rng_seed` is the seed of the split that chooses the penalty."""
        known = np.flatnonzero(data.train_labels >= 0)
        if len(known) == 0:
            raise InputError("transfer: needs a data set with training labels. Got none. Leave it out.")
        known = known[evenly(len(known), self.images).numpy()]
        x, test = (network.features_of(images) for images in (data.train_images[known], data.test_images))
        y, truth = (torch.from_numpy(labels).to(x.device) for labels in (data.train_labels[known], data.test_labels))
        tuned = tune(x, y, data.classes, share=VALIDATION, seed=rng_seed)
        predictions = _neighbours.predict(test, x, y, data.classes, k=NEIGHBOURS, temperature=TEMPERATURE)
        return {"linear": tuned.probe.accuracy(test, truth), "knn": accuracy(predictions, truth)}
