from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

from cl_semisup.evaluation import Features, ProbeResult
from cl_semisup.measures import geometry
from cl_semisup.seeds import seed

STEPS = 10  # a root mean square has this many steps: rounding lowers a CKA by less than 0.001


@dataclass(frozen=True)
class Similarity:
    """The part of unbiased linear CKA that depends on one run, so that reports can compare any two runs.

    It stores, beside the record, `gram`: the entries above the diagonal of the U-centred Gram matrix of the backbone
    features, n (n - 1) / 2 whole numbers in tenths of their root mean square (some 20 kB for 100 images). All runs of a
    data set use the same `images` test images. The cosine of two runs' entries is their CKA. `gram_images` is the
    number of images; it is 0 with fewer than four test images or constant features.

    Source: arXiv 2010.15327, eq. 3 (HSIC_1 of Song et al. 2012); U-centring: Szekely & Rizzo 2014
    Difference: one set of images for all runs, instead of means over batches of all test images

    Args:
        images: n, at most so many test images; a smaller draw is part of a larger one
    """

    images: Annotated[int, Interval(ge=4, le=500)] = 100

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        dataset, *_ = features.seed_key
        generator = torch.Generator().manual_seed(seed("similarity images", dataset))
        rows = torch.randperm(len(features.test), generator=generator)[: self.images].to(features.test.device)
        gram = geometry.centred_gram(features.test[rows])
        if not bool(gram.any()):
            return ProbeResult(diagnostics={"gram_images": 0.0})
        entries = (STEPS * len(gram) ** 0.5 * gram).round().int().tolist()
        return ProbeResult(diagnostics={"gram_images": float(len(rows))}, curves={"gram": entries})
