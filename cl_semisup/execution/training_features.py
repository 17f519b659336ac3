"""Features of the random views of a training by a frozen encoder: encoded in the first run, read in those after it.

The views of a step depend on names alone (data set, repetition, step), not on the loss or its settings. So runs of a
repetition with the same batches ask for the same features. A file holds those of steps that follow each other and is
named by the views of its first step; the views of every step are compared by their hash.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cl_semisup.execution.data import Data
from cl_semisup.execution.feature_cache import MAX_BYTES, FeatureCache, content_hash
from cl_semisup.execution.machine import Machine
from cl_semisup.suite.run import Run
from cl_semisup.training import exchange
from cl_semisup.training.model import Model

PART_BYTES = 32 * 2**20  # of features in one file
FLOAT_BYTES = 4

Encode = Callable[[Tensor], Tensor]


def encoder(encode: Encode, model: Model, run: Run, machine: Machine, data: Data) -> Encode:
    """What encodes a batch in training: `encode`, with its outputs kept where the encoder is frozen and all have room.

    Not on a GPU, where a recorded step computes its features anew, and not with several processes.
    """
    device = data.mean.device
    cache = FeatureCache(model.encoder, run, machine, device, 0)
    numbers = run.epochs * len(data.train_images) * (2 + run.local_views) * model.feature_dim
    fits = FLOAT_BYTES * numbers <= MAX_BYTES // 2
    if cache.active and fits and device.type != "cuda" and exchange.world_size() == 1:
        return TrainingFeatures(encode, cache)
    return encode


def keep(encode: Encode | None) -> None:
    """After the last step: keep what is not yet kept."""
    if isinstance(encode, TrainingFeatures):
        encode.save()


class TrainingFeatures:
    """`encode` of a frozen encoder, whose outputs are kept. `save` comes after the last step."""

    def __init__(self, encode: Encode, cache: FeatureCache):
        self.encode, self.cache = encode, cache
        self._stored = deque[tuple[str, Tensor]]()  # of the next steps: hash of the views, features
        self._computed: list[tuple[str, Tensor]] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, channels, side, side) -> (N, F)."""
        views = content_hash({str(torch.is_autocast_enabled(inputs.device.type)): inputs})
        if not self._stored and not self._computed:
            self._stored = self._read(views)
        if self._stored and self._stored[0][0] == views:
            return self._stored.popleft()[1].to(inputs.device)
        self._stored.clear()
        features = self.encode(inputs)
        if features.dtype == torch.float32:
            self._computed.append((views, features.detach().cpu().clone()))
            if sum(kept.nbytes for _, kept in self._computed) >= PART_BYTES:
                self.save()
        return features

    def save(self) -> None:
        """Keep what was computed since the last call."""
        if self._computed:
            views, features = zip(*self._computed, strict=True)
            self._computed = []
            sizes = np.array([len(kept) for kept in features])
            arrays = {"views": np.array(views), "sizes": sizes, "features": torch.cat(features).numpy()}
            self.cache.write(f"training {views[0]}", arrays)

    def _read(self, views: str) -> deque[tuple[str, Tensor]]:
        arrays = self.cache.read(f"training {views}")
        if not arrays:
            return deque()
        parts = torch.from_numpy(arrays["features"]).split(arrays["sizes"].tolist())
        return deque(zip(map(str, arrays["views"]), parts, strict=True))
