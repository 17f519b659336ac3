"""What a network in evaluation mode gives for uint8 images: features and projections, a batch at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

from cl_semisup.data.views import ViewMaker
from cl_semisup.execution.feature_cache import FeatureCache
from cl_semisup.seeds import seed
from cl_semisup.training.model import Model

EVALUATION_BATCH = 1000  # images at once, unless the encoder says otherwise


def evaluation_batch(model: Model) -> int:
    """Images at once when features are computed."""
    return int(getattr(model.encoder, "evaluation_batch", EVALUATION_BATCH))


class Outputs:
    """Outputs of a network. With a cache, features of a frozen encoder are computed once on this machine."""

    def __init__(self, model: Model, views: ViewMaker, device: torch.device, cache: FeatureCache | None = None):
        self.model, self.views, self.device, self.cache = model.eval(), views, device, cache
        self.batch = evaluation_batch(model)
        self.pixels = (views.mean.tolist(), views.std.tolist())

    def not_augmented(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F) features and (N, D) projections of images as they are."""
        return self._of(images, lambda batch, _: self.views.normalize(batch))

    @torch.no_grad()
    def of_data_set(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same, from the cache if the features are there."""
        if self.cache is None or not self.cache.active:
            return self.not_augmented(images)
        features = self.cache(images, self.pixels, lambda: self.not_augmented(images)[0])
        return features, torch.cat([self.model.projector(batch) for batch in features.split(self.batch)])

    def of_view(self, images: Tensor, number: int, seed_key: tuple[object, ...]) -> Tensor:
        """(N, F) features of a random view of each image, whose seed is a name."""

        def transform(batch: Tensor, n: int) -> Tensor:
            index = n * self.batch + torch.arange(len(batch), device=batch.device)
            own, shared = seed("test views", *seed_key, number, n), seed("test views", *seed_key, n)
            return self.views(batch, own, number, index, images, shared)

        def compute() -> Tensor:
            return self._of(images, transform)[0]

        if self.cache is None or self.views.others:  # whose code may change
            return compute()
        return self.cache(images, (*self.pixels, self.views.settings, seed_key, number), compute)

    @torch.no_grad()
    def _of(self, images: Tensor, transform: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, ...] = ()
        for number, batch in enumerate(images.split(self.batch)):
            features = self.model.encoder(transform(batch.to(self.device), number))
            parts = features, self.model.projector(features)
            if not outputs:  # made at once: small parts that stay between large ones that go would split the memory
                outputs = tuple(part.new_empty(len(images), part.shape[1]) for part in parts)
            for all_rows, part in zip(outputs, parts, strict=True):
                all_rows[number * self.batch :][: len(part)] = part
        return outputs[0], outputs[1]
