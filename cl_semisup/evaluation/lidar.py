from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Interval

from cl_semisup.errors import InputError
from cl_semisup.evaluation import Features, ProbeResult, evenly
from cl_semisup.measures import geometry


@dataclass(frozen=True)
class LiDAR:
    """LiDAR: the number of directions in which images differ by more than the views of one image do.

    Of backbone features of `views` random views of each test image (at most `images`, evenly spaced). `lidar` lies in
    [1, min(F, images - 1)]. `lidar_samples` is images (views - 1) / F: below 1 the spread between views has a lower
    rank than the features, and the value is noise.

    Source: arXiv 2312.04000, section 4
    Difference: 10 views instead of 50, of test images, and of backbone features

    Args:
        views: q, random views of each image
        images: n, at most so many test images
        delta: added to the variances within images
    """

    views: Annotated[int, Interval(ge=2, le=1000)] = 10
    images: Annotated[int, Interval(ge=2)] = 1000
    delta: Annotated[float, Gt(0)] = 1e-4

    default: ClassVar[bool] = False
    scores: ClassVar[tuple[str, ...]] = ()

    def measure(self, features: Features) -> ProbeResult:
        network = features.require_network("lidar", "compute features of more views")
        count = min(self.images, len(features.test))
        if count < 2:
            raise InputError(f"lidar: needs two test images. Got {count}. Leave it out.")
        rows = evenly(len(features.test), count).to(features.test.device)
        views = torch.stack([network.view(number)[rows] for number in range(1, self.views + 1)])  # (q, n, F)
        samples = count * (self.views - 1) / features.test.shape[1]
        lidar = float(geometry.lidar(views, self.delta))
        return ProbeResult(diagnostics={"lidar": lidar, "lidar_samples": samples})
