from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Features, FeatureSet, Network, ProbeResult, _linear
from cl_semisup.evaluation._stages import outputs

BATCH = 500  # images at once


@dataclass(frozen=True)
class LinearLayers:
    """The converged linear probe on the outputs of the encoder's last blocks, side by side in one vector.

    Feature maps count with their spatial mean, tokens with the first token and the mean of the others. A block is one
    of a ResNet's or a transformer's repeated blocks; of a plain row of layers it is a layer with weights and the norm,
    pooling and activation behind it. Penalty and labels are those of the probe `linear`. Which papers: the last four
    blocks of arXiv 2104.14294 (DINO, appendix) and one or four of 2304.07193 (DINOv2, linear evaluation).

    Source: arXiv 2304.07193, appendix B.3
    Difference: converged logistic regression with a chosen penalty for a grid of SGD runs; no augmentation

    Args:
        blocks: how many of the last blocks, at most
    """

    blocks: Annotated[int, Interval(ge=1, le=64)] = 4

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("linear_layers_top1", "linear_layers_top1_labelled")

    def measure(self, features: Features) -> ProbeResult:
        network, result = features.require_network("linear_layers", "compute features of its blocks"), ProbeResult()
        if not bool((features.train_labels >= 0).any()):
            return result
        train, test = (self._layers(network, images) for images in (network.train_images, network.test_images))
        layers = FeatureSet("layers_", train.to(features.train), test.to(features.test))
        result.diagnostics["linear_layers_width"] = float(train.shape[1])
        for suffix, _ in features.label_sets():
            tuned = _linear.tuned(features, layers, suffix)
            if tuned is not None:
                result.scores[f"linear_layers_top1{suffix}"] = tuned.probe.accuracy(layers.test, features.test_labels)
        return result

    @torch.no_grad()
    def _layers(self, network: Network, images: Tensor) -> Tensor:
        """(N, W) outputs of the last blocks."""
        parts = []
        with outputs(network.encoder, self.blocks) as collected:
            for part in images.split(BATCH):
                collected.clear()
                final = network.encoder(network.inputs(part))
                parts.append(torch.cat(collected, dim=1).float() if collected else final)
        return torch.cat(parts)
