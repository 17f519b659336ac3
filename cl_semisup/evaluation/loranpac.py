from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from cl_semisup.evaluation import Features, ProbeResult, _least_squares, accuracy, evenly
from cl_semisup.seeds import seed


@dataclass(frozen=True)
class LoRanPAC:
    """Random ReLU features, then least squares with the weak directions cut off, and ridge beside it.

        H = relu(Z R),  R (F, E) standard normal, never trained;  H = U S V^T,  the strongest k directions kept
        W = V_k S_k^-1 U_k^T Y,   class of q = argmax_c (relu(z_q R) W)_c

    `loranpac_top1` is this, `ranpac_top1` ridge regression on the same H with its strength chosen on a fifth of the
    training images. Both learn from every labelled training image of the run, at most `images` of them, on unit rows.

    Source: arXiv 2410.00645, code at liangzu/loranpac `utils/inc_net.py` (TSVDNet); ridge: arXiv 2307.02251
    Difference: one batch instead of a stream of them, float64 instead of float32, 2,000 random features instead of
        100,000, features on the unit sphere

    Args:
        width: E, random features
        truncation: share of min(M, E) singular directions that is cut off
        images: at most so many training images, evenly spaced; bounds memory to images x E in float64
    """

    width: Annotated[int, Interval(ge=1, le=20_000)] = 2000
    truncation: Annotated[float, Interval(ge=0, lt=1)] = 0.25
    images: Annotated[int, Interval(ge=1)] = 10_000

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ("loranpac_top1", "ranpac_top1")

    def measure(self, features: Features) -> ProbeResult:
        rows = torch.nonzero(features.train_labels >= 0).squeeze(1)
        if len(rows) == 0:
            return ProbeResult()
        rows = rows[evenly(len(rows), self.images)]
        labels = features.train_labels[rows]
        generator = torch.Generator().manual_seed(seed("loranpac", *features.seed_key))
        projection = torch.randn(features.train.shape[1], self.width, generator=generator, dtype=torch.float64)
        h, q = self._features(features.train[rows], projection), self._features(features.test, projection)
        cut = _least_squares.truncated(h, labels, features.classes, 1 - self.truncation)
        rng_seed = seed("validation", *features.seed_key)
        ridge, strength = _least_squares.tuned_ridge(h, labels, features.classes, rng_seed)
        truth = features.test_labels.to(q.device)
        return ProbeResult(
            scores={
                "loranpac_top1": accuracy(cut(q).argmax(dim=1), truth),
                "ranpac_top1": accuracy(ridge(q).argmax(dim=1), truth),
            },
            diagnostics={"ranpac_strength": strength},
        )

    @staticmethod
    def _features(z: Tensor, projection: Tensor) -> Tensor:
        """(N, E) random features of unit rows, in float64."""
        u = torch.nn.functional.normalize(_least_squares.exact(z), dim=1)
        return torch.relu(u @ projection.to(u.device))
