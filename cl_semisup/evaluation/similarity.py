from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval

from cl_semisup.evaluation import Features, ProbeResult
from cl_semisup.measures import geometry
from cl_semisup.seeds import seed

STEPS = 10  # a root mean square has so many steps: rounding lowers a CKA by less than 0.001


@dataclass(frozen=True)
class Similarity:
    """How alike are the features of two runs? What unbiased linear CKA has to know of a run, for reports to compare.

    Of `images` test images, drawn once a data set, so that all its runs have the same ones: the entries above the
    diagonal of the U-centred Gram matrix of the backbone features, n (n - 1) / 2 whole numbers in tenths of their root
    mean square, beside the record (`gram`; 100 images make some 20 kB). The cosine of two runs' entries is their CKA,
    so features need not be kept and no run waits for another. `gram_images` says of how many images it is: 0 where
    there is nothing to compare, with fewer than four test images or features that are constant.

    Source: arXiv 2010.15327, eq. 3 (HSIC_1 of Song et al. 2012); U-centring: Szekely & Rizzo 2014
    Difference: one set of images for all runs, instead of means over batches of all test images

    Args:
        images: n, at most so many test images; a smaller draw is part of a larger one
    """

    images: Annotated[int, Interval(ge=4, le=500)] = 100

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, embedded: Features) -> ProbeResult:
        dataset, *_ = embedded.seed_key
        generator = torch.Generator().manual_seed(seed("similarity images", dataset))
        rows = torch.randperm(len(embedded.test), generator=generator)[: self.images].to(embedded.test.device)
        gram = geometry.centred_gram(embedded.test[rows])
        if not bool(gram.any()):
            return ProbeResult(diagnostics={"gram_images": 0.0})
        entries = (STEPS * len(gram) ** 0.5 * gram).round().int().tolist()
        return ProbeResult(diagnostics={"gram_images": float(len(rows))}, curves={"gram": entries})
